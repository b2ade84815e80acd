"""What a task asks for, held against what EvalScope would do in its place: refused before anything is sent.

EvalScope 1.14.1 judges a stand-in model where none is named, looks for weights where no endpoint is, takes a
limit of 0 for none, and passes over the arguments of a dataset that is not run.
"""

from __future__ import annotations

import difflib
import functools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2_verifier_adapter.errors import UsageError
from k2_verifier_adapter.evalscope_plugin.parameters import PARAMETERS_OF
from k2_verifier_adapter.version import BENCHMARK, BENCHMARKS

if TYPE_CHECKING:
    from evalscope.config import TaskConfig

_STAND_IN = "mock_llm"


def checked_init(init: Callable[..., None]) -> Callable[..., None]:
    """Wrap `TaskConfig.__init__`, so that settings are refused that EvalScope would understand otherwise."""

    @functools.wraps(init)
    def checked(task: TaskConfig, /, **settings: Any) -> None:
        init(task, **_checked(settings))

    return checked


def checked_from_dict(from_dict: Callable[..., TaskConfig]) -> Callable[..., TaskConfig]:
    """Wrap `TaskConfig.from_dict`, through which command lines and task files come."""

    @functools.wraps(from_dict)
    def checked(settings: Mapping[str, Any]) -> TaskConfig:
        return from_dict(_checked(settings))

    return checked


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give the settings of a task; `UsageError` if it is for one of ours and one cannot be meant."""
    chosen = dict(settings)
    if not set(BENCHMARKS) & set(chosen.get("datasets") or ()):
        return chosen
    for path, value in _numbers(chosen, ""):
        if not math.isfinite(value):
            raise UsageError(f"{path} is {value!r}, expected a finite number")
    if _is_zero(chosen.get("limit")):
        raise UsageError(
            "limit is 0, which EvalScope takes for no limit at all; give a number of rows, or leave limit "
            "out to ask all of them"
        )
    check_dataset_args(chosen.get("dataset_args") or {}, chosen["datasets"])
    if chosen.get("eval_type") == _STAND_IN and not chosen.get("model"):
        # Named, it can be told from a model that nobody named.
        chosen["model"] = _STAND_IN
    return chosen


def check_endpoint(task: TaskConfig) -> None:
    """Raise `UsageError` for a task that names no model, or no endpoint to ask."""
    if not isinstance(task.model, str):
        return  # made in Python
    if task.eval_type == _STAND_IN and task.model == task.model_task:
        raise UsageError(
            "no model is named; give --model NAME and --api-url URL (EvalScope would judge its own stand-in "
            f"model; --eval-type {_STAND_IN} asks for that one)"
        )
    api_url = task.api_url or os.environ.get("EVALSCOPE_BASE_URL")
    of_weights = task.eval_type == "llm_ckpt" and not Path(task.model).is_dir()
    if of_weights or (task.eval_type == "openai_api" and not api_url):
        raise UsageError(
            f"model {task.model!r} has no endpoint; give --api-url URL, such as https://HOST/v1 (EvalScope "
            "would look for weights; local ones are a directory)"
        )


def _numbers(value: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, float):
        yield path, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _numbers(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            yield from _numbers(item, f"{path}[{place}]")
    elif hasattr(type(value), "model_fields"):
        yield from _numbers(dict(value), path)


def _is_zero(limit: Any) -> bool:
    try:
        return limit is not None and float(limit) == 0
    except (TypeError, ValueError):
        return False  # EvalScope says what is wrong with it


def check_dataset_args(given: Any, datasets: Iterable[str]) -> None:
    """Raise `UsageError` for a misspelled name, which EvalScope passes over in silence."""
    from evalscope.api.benchmark import BenchmarkMeta

    ours = [name for name in BENCHMARKS if name in datasets]
    arguments = {field.name for field in fields(BenchmarkMeta)} | {"local_path", "extra_params", "filters"}
    names = sorted(datasets)
    for name in _object("dataset_args", given):
        if name in names:
            continue
        if name in arguments:
            raise UsageError(
                f"dataset_args.{name} names no dataset; did you mean "
                f"{{{(ours or [BENCHMARK])[0]!r}: {{{name!r}: ...}}}}? Its keys are datasets, whose "
                "arguments stand inside"
            )
        hint = _meant(name, names)
        if hint or not set(ours) & set(given):
            raise UsageError(f"dataset_args.{name} is no dataset of this task ({', '.join(names)}){hint}")
    for benchmark in ours:
        own = _object(f"dataset_args.{benchmark}", given.get(benchmark) or {})
        _refuse_unknown(f"dataset_args.{benchmark}", own, arguments)
        extra = _object(f"dataset_args.{benchmark}.extra_params", own.get("extra_params") or {})
        _refuse_unknown("extra_params", extra, {parameter.name for parameter in PARAMETERS_OF[benchmark]})


def _object(what: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{what} is {value!r}, expected an object")
    return value


def _refuse_unknown(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    names = sorted(known)
    for name in given:
        if name not in names:
            raise UsageError(f"{what}.{name} is unknown{_meant(name, names)}")


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name).replace("-", "_").lower(), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
