"""Run EvalScope from Python: a whole evaluation, or what it would cost."""

from __future__ import annotations

import argparse
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from evalscope.api.model.model import get_model_with_task_config
from evalscope.api.registry import get_benchmark
from evalscope.arguments import add_argument
from evalscope.config import TaskConfig, load_task_config_snapshot
from evalscope.run import run_task

from k2_verifier_adapter.core.observed import NO_PRICES, Prices
from k2_verifier_adapter.errors import RunInterruptedError, UnknownFlagError, UsageError
from k2_verifier_adapter.evalscope_plugin import asked, masking, planning
from k2_verifier_adapter.evalscope_plugin.client.environment import check_environment
from k2_verifier_adapter.evalscope_plugin.console import quiet
from k2_verifier_adapter.evalscope_plugin.costs import verdict_costs
from k2_verifier_adapter.evalscope_plugin.model_clients import client_for
from k2_verifier_adapter.evalscope_plugin.parameters import PARAMETERS, gate_options
from k2_verifier_adapter.evalscope_plugin.run_files import begun, check_regular, storage_errors_told
from k2_verifier_adapter.evalscope_plugin.takeover import require_active
from k2_verifier_adapter.formats.rows import only_subset
from k2_verifier_adapter.formats.runs import RunPaths
from k2_verifier_adapter.version import BENCHMARK, BENCHMARKS

_OTHER_SETTINGS = "Cached evaluation identity does not match"
"""EvalScope 1.14.1 goes on with two digests, which tell nobody what differs."""


def run_eval(
    arguments: Sequence[str],
    config: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    benchmark: str = BENCHMARK,
    *,
    typed: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Run `evalscope eval` in this process.

    Args:
        arguments: Flags of `evalscope eval`; each overrides the value of that name in `config`.
        config: The content of a task file, or None.
        parameters: Parameters of the benchmark, which override those of flags and config.
        benchmark: Which one of ours.
        typed: Settings that override all of the others, member by member.

    Returns:
        The run directory.

    Raises:
        RunInterruptedError: If the user interrupts.
        UsageError: If EvalScope refuses a flag or a setting.
        K2VerifierError: Whatever else this package raises during the run.
    """
    require_active()
    check_environment()
    task: TaskConfig | None = None
    try:
        with refusals(), quiet():
            task = TaskConfig.from_dict(settings_of(arguments, config, parameters, benchmark, typed=typed))
            if task.use_cache:
                check_regular(Path(task.use_cache))  # EvalScope is about to open its log in there.
                let_limit_grow(task)
            with storage_errors_told(task):
                run_task(task)
    except KeyboardInterrupt:
        if task is None or not begun(Path(task.work_dir)):
            raise
        raise RunInterruptedError(task.work_dir) from None
    return Path(task.work_dir)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would send for one subset: the host (None without a URL), shared parameters, cost, place.

    `verdicts` says what a verdict on two kinds of vendors would probably cost; it is empty where none can be
    said to.
    """

    subset: str
    model: str
    host: str | None
    parameters: Mapping[str, Any]
    cost: planning.Cost
    verdicts: list[str]
    paths: RunPaths


def estimate_eval(
    arguments: Sequence[str],
    config: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    prices: Prices = NO_PRICES,
    benchmark: str = BENCHMARK,
    *,
    typed: Mapping[str, Any] = MappingProxyType({}),
) -> list[Estimate]:
    """Say what `run_eval` would send with the same arguments; sends nothing and writes nothing.

    Raises what the run would raise before its first request.
    """
    require_active()
    check_environment()
    with refusals(), quiet():
        task = TaskConfig.from_dict(settings_of(arguments, config, parameters, benchmark, typed=typed))
        asked.check_endpoint(task)
        masking.check_and_mask(task)
        adapter = get_benchmark(benchmark, task)
        datasets = adapter.load_dataset()
        adapter.check_gate()
        client = client_for(get_model_with_task_config(task_config=task), task)
        user = planning.user_parameters(task, client.api)
        planner = adapter.planner(client.model_name, user, client.masker)
        found = []
        for subset, dataset in datasets.items():
            paths = RunPaths(Path(task.use_cache or task.work_dir), task.model_id, subset, benchmark)
            rule, resume = adapter.stopping_rule(subset), bool(task.use_cache)
            items = planning.collect(planner, paths, dataset, adapter.repeats, resume=resume, rule=rule)
            shared = planner.shared_parameters(subset, [item.case for item in items])
            cost = planning.expected_cost(items)
            rows = adapter.rows[subset]
            standard = rows.standard or adapter.preset(subset).standard
            requirements = gate_options(adapter.parameters).requirements
            verdicts = verdict_costs(
                rows.cases, standard, requirements, cost, repeats=adapter.repeats, prices=prices
            )
            found.append(
                Estimate(subset, client.model_name, client.host, shared, cost, list(verdicts), paths)
            )
    return found


def settings_of(
    arguments: Sequence[str],
    config: Mapping[str, Any] | None,
    parameters: Mapping[str, Any] | None,
    benchmark: str = BENCHMARK,
    *,
    typed: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Put config, flags and parameters together; `UsageError` for a flag that EvalScope lacks."""
    given = {**(config or {}), **explicit_flags(arguments)}
    _check_objects(given, benchmark)
    chosen = merged_settings(given, typed)
    chosen.pop("dry_run", None)  # EvalScope's own only prints the settings; see `estimate_eval`
    chosen.setdefault("datasets", [benchmark])
    if benchmark not in chosen["datasets"] or set(chosen["datasets"]) - set(BENCHMARKS):
        raise UsageError(
            f"datasets is {chosen['datasets']!r}, expected {benchmark!r}, with or without our other one "
            f"({' or '.join(BENCHMARKS)}); for others use `evalscope eval`"
        )
    if local := (typed.get("dataset_args") or {}).get(benchmark, {}).get("local_path"):
        named = chosen["dataset_args"][benchmark].get("subset_list")
        if not named and (subset := only_subset(local)) is not None:
            chosen = merged_settings(chosen, {"dataset_args": {benchmark: {"subset_list": [subset]}}})
    if "generation_config" in chosen:
        chosen["generation_config"] = planning.explicit_defaults(chosen["generation_config"])
    if parameters:
        chosen = merged_settings(chosen, {"dataset_args": {benchmark: {"extra_params": parameters}}})
    return chosen


def merged_settings(settings: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Put settings above others; what both hold as mappings is put together."""
    merged = dict(settings)
    for name, value in above.items():
        below = merged.get(name)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[name] = merged_settings(below, value)
        else:
            merged[name] = value
    return merged


def _check_objects(settings: Mapping[str, Any], benchmark: str) -> None:
    """Refuse what is no object where flags would put members into one."""
    inner: Any = settings
    for name in ("dataset_args", benchmark, "extra_params"):
        inner = inner.get(name) or {}
        if not isinstance(inner, Mapping):
            raise UsageError(f"{name} is {inner!r}, expected an object of settings")


def let_limit_grow(task: TaskConfig) -> None:
    """Let a run go on with more rows than it was begun with, which EvalScope 1.14.1 takes for another run.

    A stored answer to another request than today's is refused all the same.
    """
    path = Path(str(task.use_cache)) / "configs" / "task_config.yaml"
    before = load_task_config_snapshot(str(path)) or {}
    most, limit = before.get("limit"), task.limit
    if most is None or limit == most or task.rerun_review:
        return
    if limit is not None and (limit < most or isinstance(limit, float) is not isinstance(most, float)):
        raise UsageError(
            f"limit is {limit:g}, but {task.use_cache} was begun with {most:g}: a run goes on with as many "
            "rows or more; give that limit or a larger one, or start a new run without --use-cache"
        )
    task.rerun_review = _chooses_rows(before) == _chooses_rows(task.to_dict())


def _chooses_rows(settings: Mapping[str, Any]) -> list[Any]:
    """Give the settings that say which rows are asked, and how often, but for the limit."""
    of_session = {parameter.name for parameter in PARAMETERS if parameter.of_session}
    rows = []
    for name, own in sorted((settings.get("dataset_args") or {}).items()):
        extra = (own.get("extra_params") or {}).items()
        chosen = {key: value for key, value in extra if key not in of_session}
        rows.append((name, {**own, "extra_params": chosen}))
    return [rows, settings.get("repeats"), settings.get("seed"), settings.get("model_id")]


@contextmanager
def refusals() -> Iterator[None]:
    """Raise `UsageError`, of one line, in the place of what EvalScope raises about a setting."""
    try:
        yield
    except Exception as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").partition(".")[0] not in ("evalscope", "pydantic"):
            raise  # what this package raises is clear already, and its bugs keep their traceback
        if _OTHER_SETTINGS in str(error):
            raise UsageError(
                "the run that --use-cache names was begun with other settings, which its "
                "configs/task_config.yaml holds; restore them, or add --rerun-review, with which stored "
                "answers count wherever they are to today's requests"
            ) from error
        message = masking.masked_message(str(error))
        lines = [line.strip() for line in message.splitlines() if line.strip()]
        kept = [line for line in lines if not line.startswith("For further information")]
        raise UsageError(f"EvalScope refuses: {'; '.join(kept[:6]) or type(error).__name__}") from error


def explicit_flags(arguments: Sequence[str]) -> dict[str, Any]:
    """Parse flags of `evalscope eval`; give only those that were set, or raise `UsageError`."""
    parser = argparse.ArgumentParser(prog="k2-verifier eval", add_help=False, exit_on_error=False)
    add_argument(parser)
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to drop defaults
        action.default = argparse.SUPPRESS
    try:
        parsed, unknown = parser.parse_known_args(list(arguments))
    except (argparse.ArgumentError, argparse.ArgumentTypeError, ValueError) as error:
        raise UsageError(f"{error}; see `evalscope eval --help`") from None
    except SystemExit:
        named = " ".join(map(_flag_name, arguments))
        raise UsageError(f"{named!r} cannot be parsed; see `evalscope eval --help`") from None
    if unknown:
        known = [name for action in parser._actions for name in action.option_strings]  # noqa: SLF001 - see above
        raise UnknownFlagError(_unknown_name(unknown[0]), known)
    return vars(parsed)


def _flag_name(argument: str) -> str:
    """Give an argument as a message may show it: a flag by its name, for a value may be a key."""
    return argument.partition("=")[0] if argument.startswith("--") else "..."


_HARMLESS = re.compile(r"-[A-Za-z]|[A-Za-z]{1,19}|.*\.(?:jsonl?|ya?ml|parquet|gz|txt|html|md)", re.DOTALL)


def _unknown_name(argument: str) -> str:
    """Give what belongs to no flag: a short word or the name of a file is no key."""
    return argument if _HARMLESS.fullmatch(argument) else _flag_name(argument)
