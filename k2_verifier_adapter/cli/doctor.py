"""`k2-verifier doctor`: what is installed, active and reachable."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from k2_verifier_adapter.cli.evaluate import with_api_key
from k2_verifier_adapter.cli.flags import request_flags
from k2_verifier_adapter.cli.output import colour_wanted, columns
from k2_verifier_adapter.version import BENCHMARK, __version__

if TYPE_CHECKING:
    from urllib.request import OpenerDirector

OK, WARNING, FAILED = "ok", "warning", "failed"
_STYLES = {OK: "green", WARNING: "yellow", FAILED: "bold red"}
_TIMEOUT_S = 15
_LARGEST_LISTING = 8 << 20
_UNUSABLE = 2
_SHOWN = 5
_PROXY_WANTS_KEY = 407
_SUBSET = "k2_thinking"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; its state is `ok`, `warning` or `failed`."""

    state: str
    name: str
    detail: str


@click.command(
    short_help="Check what is installed, active and reachable.",
    context_settings={"ignore_unknown_options": True},
    options_metavar="[OPTIONS] [EVALSCOPE FLAGS]",
)
@click.option("--api-url", help="Base URL of the endpoint (https://HOST/v1); asks it for its models.")
@click.option("--model", help="Also send this model one row and a dozen probes, and say what comes back.")
@click.option("--api-key", help="The key; else K2_VERIFIER_API_KEY, else OPENAI_API_KEY.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The task file of a run: what is sent is what the run would send.",
)
@request_flags
@click.argument("evalscope_flags", nargs=-1, type=click.UNPROCESSED, metavar="")
@click.pass_context
def doctor(
    ctx: click.Context,
    *,
    api_url: str | None,
    model: str | None,
    api_key: str | None,
    config_file: Path | None,
    typed: Mapping[str, Any],
    evalscope_flags: tuple[str, ...],
) -> None:
    """Check what is installed, active and reachable; exit code 2 if something failed.

    With an endpoint and a model, it sends one row and a dozen probes with the settings of `eval`, whose flags
    it takes, and says whether a whole run is worth its money. Without --rows, the row is a synthetic one.

    \b
    k2-verifier doctor
    k2-verifier doctor --api-url https://api.example.com/v1 \\
        --model kimi-k2-thinking
    """
    if model is not None and api_url is None and config_file is None and "api_url" not in typed:
        raise click.UsageError("--model needs --api-url", ctx)
    given = {"api_url": api_url, "model": model, "api_key": api_key}
    above = {**typed, **{name: value for name, value in given.items() if value is not None}}
    settings = _settings(config_file, above, evalscope_flags)
    url, name = settings.get("api_url"), settings.get("model")
    if url is not None:
        _check_url(ctx, url)
    checks = list(_installed())
    usable, found = _rows(settings)
    checks.append(found)
    if url is not None:
        checks.append(_models(url, settings, name))
        if name is not None and usable and checks[-1].state != FAILED:
            checks += _first_look(settings)
    _show(checks, settings)
    ctx.exit(_UNUSABLE if any(check.state == FAILED for check in checks) else 0)


def _settings(
    config_file: Path | None, above: Mapping[str, Any], evalscope_flags: Sequence[str]
) -> dict[str, Any]:
    """Put together what a run would be asked with; bundled rows where none are named."""
    config: dict[str, Any] = {}
    if config_file is not None:
        from k2_verifier_adapter.formats.config import load_config

        config = load_config(config_file)
    if config or above or evalscope_flags:
        from k2_verifier_adapter.evalscope_plugin.running import settings_of

        config = settings_of(list(evalscope_flags), config, None, typed=above)
    config = with_api_key(config, evalscope_flags, os.environ) or {}
    every = config.get("dataset_args") or {}
    config["dataset_args"] = {**every, BENCHMARK: {"local_path": "bundled", **(every.get(BENCHMARK) or {})}}
    return config


def _check_url(ctx: click.Context, api_url: str) -> None:
    """Refuse what is no base URL; one that holds credentials is not shown."""
    from k2_verifier_adapter.evalscope_plugin.masking import refuse_credentials_in

    refuse_credentials_in(api_url)
    if urlsplit(api_url).scheme not in ("http", "https") or not urlsplit(api_url).netloc:
        raise click.BadParameter(f"{api_url!r} is not an http or https URL", ctx, param_hint="--api-url")


def _installed() -> Iterator[Check]:
    from importlib import metadata

    yield Check(OK, "Python", f"{platform.python_version()} at {sys.executable}")
    yield Check(OK, "k2-verifier-adapter", __version__)
    try:
        yield Check(OK, "EvalScope", metadata.version("evalscope"))
    except metadata.PackageNotFoundError:
        yield Check(FAILED, "EvalScope", "not installed; pip install 'evalscope>=1.14.1,<2'")
        return
    from k2_verifier_adapter.evalscope_plugin.takeover import status

    found = status()
    yield Check(OK if found.active else FAILED, "benchmark name", found.reason)
    if found.start_up_file is None:
        yield Check(
            WARNING,
            "start-up file",
            "not installed: the stock evalscope command runs EvalScope's own benchmark; install with pip, or "
            "import k2_verifier_adapter first",
        )
    else:
        yield Check(OK, "start-up file", found.start_up_file)


def _rows(settings: Mapping[str, Any]) -> tuple[bool, Check]:
    """Load the rows; say whether they can be used, and what they are."""
    from k2_verifier_adapter.core.history import HistoryOptions
    from k2_verifier_adapter.errors import DataError
    from k2_verifier_adapter.formats.rows import load_cases

    own = settings["dataset_args"][BENCHMARK]
    subset = (own.get("subset_list") or [_SUBSET])[0]
    try:
        loaded = load_cases(str(own["local_path"]), subset, HistoryOptions())
    except DataError as error:
        return False, Check(FAILED, "rows", str(error))
    calls = sum(case.official.should_call for case in loaded.cases)
    kind = (
        "synthetic: they show whether it works, not how faithful it is" if loaded.info.synthetic else "real"
    )
    detail = f"{loaded.info.source}: {len(loaded.cases)} rows, {calls} with a call, {kind}"
    return True, Check(OK, "rows", detail)


def _opener() -> OpenerDirector:
    """Give what follows no redirect: urllib would send the key along, to whatever host is named."""
    from urllib.request import HTTPRedirectHandler, build_opener

    class NoRedirects(HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    return build_opener(NoRedirects)


def _models(api_url: str, settings: Mapping[str, Any], model: str | None) -> Check:
    """Ask the endpoint for its models; many serve no list, which is no fault."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request

    from k2_verifier_adapter.core.printable import plural
    from k2_verifier_adapter.errors import UsageError
    from k2_verifier_adapter.evalscope_plugin.client.environment import check_environment, environment_proxy

    url = f"{api_url.rstrip('/')}/models"
    key, generation = settings.get("api_key"), settings.get("generation_config") or {}
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    headers |= {str(name): str(value) for name, value in (generation.get("extra_headers") or {}).items()}
    try:
        check_environment()
        proxy = environment_proxy(url)
    except UsageError as error:
        return Check(FAILED, "endpoint", str(error))
    where = url if proxy is None else f"{url}, asked through {proxy}"
    try:
        request = Request(url, headers=headers)  # noqa: S310 - http(s), checked above
        with _opener().open(request, timeout=_TIMEOUT_S) as response:
            listing = json.loads(response.read(_LARGEST_LISTING))
    except HTTPError as error:
        with error:
            body = error.read(_LARGEST_LISTING).decode("utf-8", "replace")
        refused = error.code in (401, 403, 407)
        return Check(
            FAILED if refused else WARNING, "endpoint", f"{where}: {_refusal(error.code, body, url)}"
        )
    except ValueError as error:
        missing = "" if _has_version(url) else "; does the URL lack /v1?"
        return Check(WARNING, "endpoint", f"{where}: no readable list of models: {error}{missing}")
    except (OSError, HTTPException, RecursionError) as error:
        reason = getattr(error, "reason", None) or error
        return Check(FAILED, "endpoint", f"{where}: cannot be reached: {reason}{_hint(reason, url)}")
    entries = listing.get("data") if isinstance(listing, dict) else None
    names = [entry.get("id") for entry in entries or () if isinstance(entry, dict)]
    shown = ", ".join(map(str, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
    if model is None:
        return Check(OK, "endpoint", f"{url}: {plural(len(names), 'model')} ({shown or 'none'})")
    if model in names:
        return Check(OK, "endpoint", f"{url}: lists {model}")
    alike = ", ".join(str(name) for name in names if "k2" in str(name).lower())
    return Check(WARNING, "endpoint", f"{url}: does not list {model!r}, but {alike or shown or 'nothing'}")


def _refusal(status: int, body: str, url: str) -> str:
    """Say what a status in the place of a list of models probably means."""
    if status in (401, 403):
        return f"HTTP {status}; is the key right? (--api-key or K2_VERIFIER_API_KEY)"
    if status == _PROXY_WANTS_KEY:
        return f"HTTP {status}; the proxy wants other credentials"
    if "https port" in body.lower():
        return f"HTTP {status}; the endpoint speaks https: use https://"
    missing = "" if _has_version(url) else "; does the URL lack /v1?"
    return f"HTTP {status}; no list of models{missing}"


def _has_version(url: str) -> bool:
    return "/v" in urlsplit(url).path


def _hint(reason: object, url: str) -> str:
    """Say what probably keeps an endpoint from being reached."""
    from http.client import HTTPException
    from ssl import SSLCertVerificationError, SSLError

    if isinstance(reason, SSLCertVerificationError):
        return "; set SSL_CERT_FILE to a PEM file with the certificate of whoever signed the endpoint's"
    if isinstance(reason, SSLError):
        return "; does it speak plain http? use http://"
    if isinstance(reason, (ConnectionResetError, HTTPException)) and url.startswith("http://"):
        return "; does it speak https? use https://"
    return ""


def _first_look(settings: Mapping[str, Any]) -> Iterator[Check]:
    """Send one row and a dozen probes, and tell what came back and what to do next."""
    from k2_verifier_adapter.errors import K2VerifierError
    from k2_verifier_adapter.evalscope_plugin.first_look import first_look

    try:
        looks = first_look(settings)
    except K2VerifierError as error:
        yield Check(FAILED, "row", str(error))
        return
    for look in looks:
        yield Check(OK if look.ok else FAILED, look.name, look.said)
    if all(look.ok for look in looks):
        yield Check(OK, "next", "a whole run is worth its money: k2-verifier conform, k2-verifier eval")
    else:
        yield Check(
            WARNING, "next", "mend this first; k2-verifier conform says more of it for a few requests"
        )


def _show(checks: list[Check], settings: Mapping[str, Any]) -> None:
    """Print what was found, without the key and other credentials, which an endpoint may repeat."""
    from rich.table import Table
    from rich.text import Text

    from k2_verifier_adapter.core.printable import printable
    from k2_verifier_adapter.core.secrets import Masker, secrets_in
    from k2_verifier_adapter.evalscope_plugin.masking import environment_secrets
    from k2_verifier_adapter.reports.text import laid_out

    said = {name: settings.get(name) for name in ("api_key", "generation_config")}
    masker = Masker(secrets_in(said) | environment_secrets())
    table = Table.grid(padding=(0, 2))
    for check in checks:
        detail = Text(printable(masker.text(check.detail)), overflow="fold")
        table.add_row(Text(check.state, _STYLES[check.state]), check.name, detail)
    click.echo(laid_out([table], colour=colour_wanted(), width=columns()), nl=False)
