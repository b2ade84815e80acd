"""`k2-verifier simulate`: the simulated vendor alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from k2_verifier_adapter.simulator import Endpoint, Profile

DEFAULT_PORT = 8765
MODEL = "kimi-k2-simulated"

PROFILE_HELP = (
    "How the vendor behaves: official (agrees always), noisy (flips decisions), broken (a mix of faults), "
    "or one fault: truncating, leaky-parser, reasoning-eater, no-guided-decoding, wrong-template, "
    "over-triggering, bad-ids, length-limited, stop-with-calls, flaky-network."
)
"""Not made of the profiles themselves: `--help` does not load them."""


@click.command(short_help="Serve a simulated vendor on loopback.")
@click.option(
    "--profile",
    "profile_name",
    default="official",
    show_default=True,
    help=f"{PROFILE_HELP} Or a model, k2 to k3, to answer any request as its official API does; --fault NAME "
    "then breaks one expectation of the contract.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="The port on 127.0.0.1; 0 takes a free one.",
)
@click.option(
    "--rows",
    default="bundled",
    show_default=True,
    help="The rows to answer: a .jsonl or .parquet file, a directory, or 'bundled'.",
)
@click.option("--subset", help="The subset, if --rows is a directory of several.")
@click.option("--seed", type=int, default=0, show_default=True, help="Chooses the requests that go wrong.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="CLASS=RATE",
    help="A fault, a sequence of faults or a wire shape, and its rate (0 to 1), on top of the profile; may "
    "be repeated.",
)
@click.pass_context
def simulate(
    ctx: click.Context,
    *,
    profile_name: str,
    port: int,
    rows: str,
    subset: str | None,
    seed: int,
    faults: tuple[str, ...],
) -> None:
    """Serve a simulated vendor on loopback until Ctrl-C; prints its URL once it is ready.

    \b
    k2-verifier simulate --profile broken
    k2-verifier simulate --profile k3 --fault ignores_tool_choice
    k2-verifier simulate --fault truncated_json=0.1 --fault http_503@1=0.2 \\
        --port 9000
    k2-verifier simulate --fault http_503@1+http_429@1=0.5 --fault gzip=1 \\
        --fault crlf=0.5
    """
    from k2_verifier_adapter.core.model_profiles import model_profiles
    from k2_verifier_adapter.simulator import FaithfulVendor, SimulatedVendor, serve_forever

    if profile_name in model_profiles():
        given = [name for name in ("rows", "subset", "seed") if _is_given(ctx, name)]
        if given:
            raise click.UsageError(
                f"--{given[0]} goes with rows, and --profile {profile_name} answers by rules"
            )
        model, named = model_profiles()[profile_name], [fault.removesuffix("=1") for fault in faults]
        described = (
            f"as the official API serves {model.title}{', but for ' if named else ''}{', '.join(named)}"
        )
        vendor: SimulatedVendor = FaithfulVendor(model, named, model=MODEL, strict_model=True)
    else:
        profile = profile_of(profile_name, faults)
        described, listed = profile.description, vendor_rows(rows, subset or "")
        vendor = SimulatedVendor(
            listed, profile, seed=seed, model=MODEL, strict_model=True, by_rules=model_profiles()["k2"]
        )

    def ready(endpoint: Endpoint) -> None:
        click.echo(endpoint.url)
        click.echo(
            f"k2-verifier: model {MODEL} (no other), {described}; any API key; Ctrl-C stops it",
            err=True,
        )

    serve_forever(vendor, port, on_ready=ready)


def _is_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def profile_of(name: str, faults: Iterable[str]) -> Profile:
    """Give a shipped profile, with faults of the command line on top, or raise `UsageError`."""
    from k2_verifier_adapter.simulator import profile_named, profile_with

    profile = profile_named(name)
    extra = dict(map(_fault_and_rate, faults))
    return profile_with({**profile.rates, **extra}) if extra else profile


def _fault_and_rate(text: str) -> tuple[str, float]:
    name, _, rate = text.partition("=")
    try:
        return name, float(rate)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not CLASS=RATE, such as truncated_json=0.1", param_hint="--fault"
        ) from None


def vendor_rows(path: str, subset: str) -> list[Mapping[str, Any]]:
    """Read rows as they stand in their file, after a check that reports every bad one (`DataError`)."""
    from k2_verifier_adapter.core.history import HistoryOptions, MalformedHistory
    from k2_verifier_adapter.formats.rows import load_cases, read_records

    load_cases(path, subset, HistoryOptions(MalformedHistory.KEEP))
    return [record.content for record in read_records(path, subset) if isinstance(record.content, Mapping)]
