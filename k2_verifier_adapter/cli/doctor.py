"""`k2-verifier doctor`: what is installed, active and reachable."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from k2_verifier_adapter.cli.evaluate import KEY_VARIABLES
from k2_verifier_adapter.cli.output import colour_wanted, columns
from k2_verifier_adapter.version import __version__

if TYPE_CHECKING:
    from urllib.request import OpenerDirector

    from k2_verifier_adapter.core.cases import Case

OK, WARNING, FAILED = "ok", "warning", "failed"
_STYLES = {OK: "green", WARNING: "yellow", FAILED: "bold red"}
_TIMEOUT_S = 15
_LARGEST_LISTING = 8 << 20
_UNUSABLE = 2
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; its state is `ok`, `warning` or `failed`."""

    state: str
    name: str
    detail: str


@click.command(short_help="Check what is installed, active and reachable.")
@click.option("--api-url", help="Base URL of the endpoint (https://HOST/v1); asks it for its models.")
@click.option("--model", help="With --api-url: send one real row to this model and say what comes back.")
@click.option("--api-key", help="The key; else K2_VERIFIER_API_KEY, else OPENAI_API_KEY.")
@click.option(
    "--rows", default="bundled", show_default=True, help="Where the one row comes from: a file or 'bundled'."
)
@click.option(
    "--subset", default="k2_thinking", show_default=True, help="The subset, if --rows is a directory."
)
@click.pass_context
def doctor(
    ctx: click.Context,
    *,
    api_url: str | None,
    model: str | None,
    api_key: str | None,
    rows: str,
    subset: str,
) -> None:
    """Check what is installed, active and reachable; exit code 2 if something failed.

    \b
    k2-verifier doctor
    k2-verifier doctor --api-url https://api.example.com/v1 \\
        --model kimi-k2-thinking
    """
    if model is not None and api_url is None:
        raise click.UsageError("--model needs --api-url", ctx)
    if api_url is not None:
        _check_url(ctx, api_url)
    key = api_key or next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), None)
    checks = list(_installed())
    case, found = _row(rows, subset)
    checks.append(found)
    if api_url is not None:
        checks.append(_models(api_url, key, model))
        if model is not None and case is not None and checks[-1].state != FAILED:
            checks += _probe(api_url, key, model, case)
    _show(checks, key)
    ctx.exit(_UNUSABLE if any(check.state == FAILED for check in checks) else 0)


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


def _row(rows: str, subset: str) -> tuple[Case | None, Check]:
    """Load the rows and choose the first with an official call."""
    from k2_verifier_adapter.core.history import HistoryOptions
    from k2_verifier_adapter.errors import DataError
    from k2_verifier_adapter.formats.rows import load_cases

    try:
        loaded = load_cases(rows, subset, HistoryOptions())
    except DataError as error:
        return None, Check(FAILED, "rows", str(error))
    calls = [case for case in loaded.cases if case.official.should_call]
    kind = "synthetic" if loaded.info.synthetic else "not synthetic"
    detail = f"{loaded.info.source}: {len(loaded.cases)} rows, {len(calls)} with a call, {kind}"
    return (calls or loaded.cases)[0], Check(OK, "rows", detail)


def _opener() -> OpenerDirector:
    """Give what follows no redirect: urllib would send the key along, to whatever host is named."""
    from urllib.request import HTTPRedirectHandler, build_opener

    class NoRedirects(HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    return build_opener(NoRedirects)


def _models(api_url: str, key: str | None, model: str | None) -> Check:
    """Ask the endpoint for its models; many serve no list, which is no fault."""
    from ssl import SSLCertVerificationError
    from urllib.error import HTTPError, URLError
    from urllib.request import Request

    from k2_verifier_adapter.core.printable import plural
    from k2_verifier_adapter.errors import UsageError
    from k2_verifier_adapter.evalscope_plugin.client.environment import check_environment

    url = f"{api_url.rstrip('/')}/models"
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    try:
        check_environment()
    except UsageError as error:
        return Check(FAILED, "endpoint", str(error))
    try:
        request = Request(url, headers=headers)  # noqa: S310 - http(s), checked above
        with _opener().open(request, timeout=_TIMEOUT_S) as response:
            listing = json.loads(response.read(_LARGEST_LISTING))
    except HTTPError as error:
        with error:
            refused = error.code in (401, 403)
        hint = "; is the key right? (--api-key or K2_VERIFIER_API_KEY)" if refused else "; no list of models"
        return Check(FAILED if refused else WARNING, "endpoint", f"{url}: HTTP {error.code}{hint}")
    except URLError as error:
        hint = "; set SSL_CERT_FILE to a PEM file with the certificate of whoever signed the endpoint's"
        certificate = isinstance(error.reason, SSLCertVerificationError)
        return Check(
            FAILED, "endpoint", f"{url}: cannot be reached: {error.reason}{hint if certificate else ''}"
        )
    except (OSError, ValueError, RecursionError) as error:
        state = WARNING if isinstance(error, ValueError) else FAILED
        return Check(state, "endpoint", f"{url}: no readable list of models: {error}")
    entries = listing.get("data") if isinstance(listing, dict) else None
    names = [entry.get("id") for entry in entries or () if isinstance(entry, dict)]
    shown = ", ".join(map(str, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
    if model is None:
        return Check(OK, "endpoint", f"{url}: {plural(len(names), 'model')} ({shown or 'none'})")
    if model in names:
        return Check(OK, "endpoint", f"{url}: lists {model}")
    alike = ", ".join(str(name) for name in names if "k2" in str(name).lower())
    return Check(WARNING, "endpoint", f"{url}: does not list {model!r}, but {alike or shown or 'nothing'}")


def _probe(api_url: str, key: str | None, model: str, case: Case) -> Iterator[Check]:
    """Send one row, streamed, and tell what came back."""
    from k2_verifier_adapter.errors import K2VerifierError
    from k2_verifier_adapter.evalscope_plugin.running import probe

    try:
        result = probe(api_url, key, model, case)
    except K2VerifierError as error:
        yield Check(FAILED, "one row", str(error))
        return
    for number, line in enumerate(result.lines):
        yield Check(OK if result.ok else FAILED, "" if number else "one row", line)


def _show(checks: list[Check], key: str | None) -> None:
    """Print what was found, without the key, which an endpoint may repeat."""
    from rich.table import Table
    from rich.text import Text

    from k2_verifier_adapter.core.printable import printable
    from k2_verifier_adapter.core.secrets import Masker, secrets_in
    from k2_verifier_adapter.evalscope_plugin.masking import environment_secrets
    from k2_verifier_adapter.reports.text import laid_out

    masker = Masker(secrets_in({"api_key": key}) | environment_secrets())
    table = Table.grid(padding=(0, 2))
    for check in checks:
        detail = Text(printable(masker.text(check.detail)), overflow="fold")
        table.add_row(Text(check.state, _STYLES[check.state]), check.name, detail)
    click.echo(laid_out([table], colour=colour_wanted(), width=columns()), nl=False)
