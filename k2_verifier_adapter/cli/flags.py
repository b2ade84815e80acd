"""The flags that several commands share, and those of `eval` that set the benchmark's own parameters.

The gate flags belong to `eval`, `report` and `score`; a baseline run is for the first two.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k2_verifier_adapter.core.model_profiles import model_profiles
from k2_verifier_adapter.evalscope_plugin.parameters import CONFORMANCE_PARAMETERS, PARAMETERS, Parameter
from k2_verifier_adapter.version import BENCHMARK

if TYPE_CHECKING:
    from k2_verifier_adapter.offline.official import OfficialAnswers


class Finite(click.FloatRange):
    """A number in a range, which NaN and infinity are in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the number."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r} is no finite number.", param, ctx)
        return found


SHARE = Finite(0, 1)

margin_option = click.option(
    "--margin",
    type=SHARE,
    metavar="X",
    help="How much worse than the baseline a run may be, as a share; 0.03 unless set.",
)

_REQUEST_OPTIONS = (
    click.option("--rows", help="The rows: a file, a directory, or 'bundled'; the hub's without it."),
    click.option("--subset", "subsets", multiple=True, help="The subset of the rows; may be repeated."),
    click.option("--base-url", metavar="URL", help="The same as --api-url, as upstream's tool names it."),
    click.option(
        "--concurrency", type=click.IntRange(min=1), metavar="N", help="Requests in flight at a time."
    ),
    click.option(
        "--header",
        "headers",
        multiple=True,
        metavar="NAME:VALUE",
        help="A header of every request; may be repeated.",
    ),
    click.option(
        "--extra-body", metavar="JSON", help="Members for the body of every request, as a JSON object."
    ),
    click.option(
        "--provider",
        "providers",
        multiple=True,
        metavar="NAME",
        help="The only provider that a router such as OpenRouter may ask; may be repeated.",
    ),
    click.option("--temperature", type=Finite(min=0), metavar="X", help="Instead of the rows' own."),
    click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Instead of the rows' own."),
    click.option(
        "--timeout",
        type=Finite(min=0, min_open=True),
        metavar="S",
        help="Seconds without progress of an attempt.",
    ),
    click.option("--no-stream", is_flag=True, help="Ask for whole answers, instead of the rows' own way."),
    click.option("--retries", type=click.IntRange(min=0), metavar="N", help="Attempts after the first."),
)
_IN_GENERATION_CONFIG = ("temperature", "max_tokens", "timeout", "retries")


def request_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that say what is asked, as people type it; the command gets them as one `typed`.

    They are settings by EvalScope's names, and stand above those of its own flags and of a task file.
    """

    @functools.wraps(command)
    def with_typed(
        *args: Any,
        rows: str | None,
        subsets: tuple[str, ...],
        base_url: str | None,
        concurrency: int | None,
        headers: tuple[str, ...],
        extra_body: str | None,
        providers: tuple[str, ...],
        no_stream: bool,
        **kwargs: Any,
    ) -> Any:
        body = {} if extra_body is None else _json_object("--extra-body", extra_body)
        if providers:
            body["provider"] = {**(body.get("provider") or {}), "only": list(providers)}
        chosen = {name: kwargs.pop(name) for name in _IN_GENERATION_CONFIG}
        chosen["stream"] = False if no_stream else None
        generation = {**chosen, "extra_headers": dict(map(_name_and_value, headers)), "extra_body": body}
        dataset = _given({"local_path": rows, "subset_list": list(subsets)})
        every = {
            "api_url": base_url,
            "eval_batch_size": concurrency,
            "dataset_args": _given({BENCHMARK: dataset}),
            "generation_config": _given(generation),
        }
        return command(*args, typed=_given(every), **kwargs)

    for option in reversed(_REQUEST_OPTIONS):
        with_typed = option(with_typed)
    return with_typed


UPSTREAMS_FLAGS = {
    "--output": "k2-verifier export RUN --output results.jsonl writes upstream's file",
    "--summary": "k2-verifier export RUN --output results.jsonl --summary summary.json writes its files",
    "--incremental": "--use-cache RUN sends only what has no stored answer",
    "--use_raw_completions": "requests are chat completions",
    "--tokenizer-model": "requests are chat completions, which need no tokenizer",
}
"""What this tool has for flags of upstream's `tool_calls_eval.py` that it does not take."""

SAMPLES_HINT = (
    "rows are given by --rows; of upstream's samples and an official results file, "
    "'k2-verifier dataset build --samples samples.jsonl --baseline results.jsonl' makes some"
)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value not in ({}, [])}


def _name_and_value(header: str) -> tuple[str, str]:
    # The value may be a key, and is not shown.
    name, colon, value = header.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter("expected NAME:VALUE, such as 'X-Team: verifier'", param_hint="--header")
    return name.strip(), value.strip()


def _json_object(flag: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"is no JSON: {error}", param_hint=flag) from None
    if not isinstance(value, dict):
        raise click.BadParameter("is no JSON object, such as '{\"top_p\": 0.9}'", param_hint=flag)
    return value


_RUN_ARGUMENTS = (
    click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...", type=click.Path(path_type=Path)),
    click.option(
        "--baseline",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The official results to hold results files against, or upstream's archive that holds them.",
    ),
    click.option("--rows", help="Rows to hold results files against: a file, a directory, or 'bundled'."),
    click.option(
        "--subset", help="The subset, where a run holds several; whose threshold results files have."
    ),
)


def run_arguments(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what names several runs, and what those of them are held against that are results files."""
    for option in reversed(_RUN_ARGUMENTS):
        command = option(command)
    return command


def official_reader(
    baseline: Path | None, rows: str | None, subset: str | None
) -> Callable[[], OfficialAnswers] | None:
    """Give what reads the official answers, once; None where none are named, an error where two are."""
    from k2_verifier_adapter.errors import UsageError
    from k2_verifier_adapter.offline.official import load_official

    if baseline is not None and rows is not None:
        raise UsageError("give the official answers either by --baseline or by --rows, not by both")
    if baseline is None and rows is None:
        return None
    return functools.cache(functools.partial(load_official, baseline, rows, subset))


profile_option = click.option(
    "--profile",
    type=click.Choice(tuple(model_profiles())),
    help="The model that answered, where neither its name nor the run tells.",
)


def inconclusive_flag(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flag that says what an inconclusive outcome means."""
    return _with_options(command, [parameter for parameter in PARAMETERS if parameter.name == "inconclusive"])


def baseline_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags of a baseline run, above `gate_flags`, which puts them into its `gate` argument."""
    baseline = click.option(
        "--baseline",
        "baseline_run",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        metavar="RUN",
        help="A run over the same rows, an earlier one or another vendor's: the exit code also says whether "
        "this one is not worse.",
    )
    return baseline(margin_option(command))


def gate_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the gate flags to a command, which gets those that were set as one `gate` argument."""
    parameters = [parameter for parameter in PARAMETERS if parameter.of_gate]

    @functools.wraps(command)
    def with_gate(
        *args: Any, baseline_run: Path | None = None, margin: float | None = None, **kwargs: Any
    ) -> Any:
        given = {parameter.name: kwargs.pop(parameter.name) for parameter in parameters}
        given["baseline"] = None if baseline_run is None else str(baseline_run)
        given["margin"] = margin
        gate = {name: value for name, value in given.items() if value is not None}
        if baseline_run is None and margin is not None:
            raise click.UsageError("--margin goes with --baseline RUN: it says how much worse a run may be")
        if gate and gate.get("gate", "none") == "none" and "baseline" not in gate:
            click.echo(
                "k2-verifier: without --gate upstream or --gate strict, thresholds are shown in the report "
                "but do not decide the exit code",
                err=True,
            )
        return command(*args, gate=gate, **kwargs)

    return _with_options(with_gate, parameters)


def parameter_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags to a command, which gets those that were set as one `parameters` argument."""
    return _with_parameters(command, PARAMETERS)


def conformance_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Do the same with the flags of `kimi_conformance`."""
    return _with_parameters(command, CONFORMANCE_PARAMETERS)


def _with_parameters(command: Callable[..., Any], declared: Iterable[Parameter]) -> Callable[..., Any]:
    with_flag = [parameter for parameter in declared if parameter.flag_help and not parameter.of_gate]

    @functools.wraps(command)
    def with_parameters(*args: Any, **kwargs: Any) -> Any:
        given = {parameter.name: kwargs.pop(parameter.name) for parameter in with_flag}
        parameters = {name: value for name, value in given.items() if value is not None}
        return command(*args, parameters=parameters, **kwargs)

    return _with_options(with_parameters, with_flag)


def _with_options(command: Callable[..., Any], parameters: Sequence[Parameter]) -> Callable[..., Any]:
    for parameter in reversed(parameters):
        if parameter.kind is bool:
            option = click.option(parameter.flag, is_flag=True, default=None, help=parameter.flag_help)
        else:
            option = click.option(
                parameter.flag,
                type=_type_of(parameter),
                metavar=None if parameter.choices else parameter.metavar,
                help=parameter.flag_help,
            )
        command = option(command)
    return command


def _type_of(parameter: Parameter) -> Any:
    """Give the values that a flag takes: not the one that means "none", for which it would be left out."""
    if parameter.choices:
        return click.Choice(parameter.choices)
    if parameter.maximum is not None:
        return Finite(parameter.minimum, parameter.maximum)
    if parameter.minimum is None:
        return parameter.kind
    without_least = parameter.minimum == parameter.default
    if parameter.kind is int:
        return click.IntRange(min=int(parameter.minimum) + without_least)
    return Finite(min=parameter.minimum, min_open=without_least)
