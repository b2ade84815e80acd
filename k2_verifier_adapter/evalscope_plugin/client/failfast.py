"""When a whole run is hopeless: one clear line, instead of every retry of every row."""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.printable import plural
from k2_verifier_adapter.core.refusals import OF_THE_ACCOUNT, RefusalReason, sort_refusal
from k2_verifier_adapter.evalscope_plugin.client.retries import MAX_RETRY_AFTER_S, is_refusal

AT_ONCE = 3
"""Failures of a kind that no later request escapes: credentials, credit, model, address."""

ROUNDS = 2
"""Rounds of the concurrency that are looked at."""

LEAST = 8
"""Requests that are looked at, however low the concurrency is."""

HOPELESS_SHARE = 0.95
"""Share of them that have to fail."""

RequestKey = tuple[str, int, int]
"""Subset, case and repeat."""

_NO_API = FailureClass.NOT_A_COMPLETION
_EVERYWHERE = frozenset({401, 402, 403, 404, 407, FailureClass.CONNECTION_FAILED})
"""What meets every request alike while none has been answered; so does what is no answer of such an API."""

_ADVICE: Mapping[int | FailureClass | RefusalReason | None, str] = {
    RefusalReason.CREDIT: "the account has no credit: recharge it",
    RefusalReason.QUOTA: "the account has no credit or quota left: recharge it, or wait until it is renewed",
    RefusalReason.MODEL: "check the model name (--model) and the API URL (--api-url)",
    RefusalReason.PARAMETER: "the endpoint refuses a parameter: check them (--generation-config)",
    400: "the endpoint refuses the request: check the parameters and the model name",
    401: "check the API key (--api-key, or K2_VERIFIER_API_KEY for k2-verifier)",
    402: "the account has no credit: recharge it",
    403: "the API key may not use this model",
    404: "check the model name (--model) and the API URL (--api-url)",
    407: "the proxy of the environment (HTTP_PROXY, HTTPS_PROXY) wants other credentials",
    422: "the endpoint refuses the parameters",
    FailureClass.CONNECTION_FAILED: "check the API URL (--api-url); is the server running?",
    FailureClass.OTHER_PROVIDER: "the router does not keep to the pinned provider: check extra_body.provider",
    _NO_API: "is this the URL of an OpenAI-compatible API, up to and including /v1?",
}
"""What to do, by the server's words, else by status, else by class."""

_NUMBERED = re.compile(r"\S*\d\S*")
"""Words with a digit: numbers, times, ids of requests."""


@dataclass(frozen=True, slots=True)
class Hopeless:
    """Why a run is to be stopped.

    Attributes:
        reason: What happened, in the server's words, and what to do.
        to_change: Whether something has to be changed first: nothing was ever answered, and nothing will be.
    """

    reason: str
    to_change: bool


class FailFast:
    """Watch what becomes of the requests of a session, in whatever order they end.

    What is stored counts: its answers say that the endpoint has answered, and a request that failed before
    and fails in the same way again says nothing new.
    """

    def __init__(
        self,
        total: int,
        concurrency: int = 1,
        *,
        answered: int = 0,
        before: Mapping[RequestKey, FailedRequest] | None = None,
        raw: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start watching.

        Args:
            total: Requests that the session is to make.
            concurrency: Requests in flight.
            answered: Answers that are stored.
            before: The requests that failed in the session before.
            raw: Whether failures are the endpoint's own; those that EvalScope reports have all one class.
            clock: Seconds by a clock that never goes back.
        """
        self._total = total
        self._window = max(LEAST, ROUNDS * min(concurrency, total))
        self._answered = answered
        self._before = before or {}
        self._raw = raw
        self._clock = clock
        self._succeeded = False
        self._failed: list[_Failed] = []
        self._account_since: list[float] = []
        self._ended: deque[_Failed | None] = deque(maxlen=ROUNDS * self._window)
        self._ended.extend([None] * min(answered, self._window))

    def succeeded(self, duration_s: float = 0.0) -> None:
        """Note an answer that took so many seconds."""
        self._succeeded = True
        self._ended.append(None)
        if self._account_since and self._clock() - duration_s > self._account_since[0]:
            # It was asked for after the account had been refused, and answered.
            self._account_since.clear()

    def failed(self, request: FailedRequest, subset: str = "") -> Hopeless | None:
        """Note a request that failed for good; say why the run is hopeless, if it is."""
        before = self._before.get((subset, request.case_index, request.repeat))
        if self._answered and before is not None and _fails_again(before, request):
            return None
        failed = _seen(request, raw=self._raw, answered=bool(self._answered))
        if not self._succeeded:
            self._failed.append(failed)
        by_account, by_share = self._by_account(failed), self._by_share(failed)
        return self._from_the_first_on(failed) or by_account or by_share

    def _by_account(self, last: _Failed) -> Hopeless | None:
        """Stop where the account, and not the request, is refused again and again."""
        if not last.of_account:
            return None
        self._account_since.append(self._clock())
        count = len(self._account_since)
        if count < min(AT_ONCE, self._total):
            return None
        return self._hopeless(f"{plural(count, 'request')} in a row were refused for the account", last)

    def _from_the_first_on(self, last: _Failed) -> Hopeless | None:
        """Stop where all requests of the session failed as only a wrong setting makes them fail."""
        count = len(self._failed)
        if self._succeeded or count > max(AT_ONCE, self._window):
            return None
        everywhere = all(failed.everywhere for failed in self._failed)
        if everywhere and count >= min(AT_ONCE, self._total) and self._alike():
            return self._hopeless(self._first(), last)
        refused = all(failed.refused or failed.everywhere for failed in self._failed)
        if refused and count >= self._total and not self._answered:
            return self._hopeless(self._first(), last)
        return None

    def _by_share(self, last: _Failed) -> Hopeless | None:
        """Stop where nearly all of the last requests failed, of whatever kinds."""
        proven = self._succeeded or bool(self._answered)
        if proven and last.refused and last.reason is not None:
            # It lies with the row, and the endpoint is well.
            return None
        self._ended.append(last)
        looked_at = list(self._ended)[-self._window :]
        whole = self._window
        if proven and all(ended is None or ended.refused for ended in looked_at):
            # Refusals cost no retries, and may still lie with the rows.
            looked_at, whole = list(self._ended), ROUNDS * self._window
        failed = [ended for ended in looked_at if ended is not None]
        if len(looked_at) < whole or len(failed) < HOPELESS_SHARE * whole:
            return None
        what = f"{len(failed)} of the last {whole} requests failed" if proven else self._first()
        counts = Counter(one.label for one in failed).most_common()
        return self._hopeless(f"{what} ({', '.join(f'{count} x {label}' for label, count in counts)})", last)

    def _alike(self) -> bool:
        """Whether the failures are related; EvalScope's have one class, and only their words say it."""
        return self._raw or len({_NUMBERED.sub("", failed.detail) for failed in self._failed}) == 1

    def _first(self) -> str:
        alike = " alike" if self._alike() and len({failed.label for failed in self._failed}) == 1 else ""
        return f"the first {len(self._failed)} requests all failed{alike} and none succeeded"

    def _hopeless(self, what: str, last: _Failed) -> Hopeless:
        unanswered = not (self._succeeded or self._answered)
        to_change = (
            unanswered
            and self._alike()
            and all((failed.everywhere or failed.refused) and not failed.waits for failed in self._failed)
        )
        return Hopeless(f"{what}: {last.detail}. Advice: {last.advice}", to_change)


@dataclass(frozen=True, slots=True)
class _Failed:
    """What matters here of a failed request.

    Attributes:
        label: Class and status.
        detail: Class and the server's words.
        refused: Whether the request is refused, and not what meets it on the way or behind.
        everywhere: Whether, as far as is known, every other request would fail like this one.
        of_account: Whether the account is refused, at whatever time.
        waits: Whether the endpoint asks to come back after a time that nobody waits for.
    """

    label: str
    detail: str
    advice: str
    reason: RefusalReason | None
    refused: bool
    everywhere: bool
    of_account: bool
    waits: bool


def _seen(request: FailedRequest, *, raw: bool, answered: bool) -> _Failed:
    kind, status = request.failure.failure_class, request.status
    reason = sort_refusal(request.failure.detail) if status is not None and status >= 400 else None
    waits = request.retry_after_s is not None and request.retry_after_s > MAX_RETRY_AFTER_S
    refused = is_refusal(kind, status, reason)
    of_request = refused and reason is not None
    of_account = status == 402 or reason in OF_THE_ACCOUNT or waits
    everywhere = (
        of_account or status in _EVERYWHERE or (status is None and kind in _EVERYWHERE) or kind is _NO_API
    )
    if kind is _NO_API and not raw:
        advice = "check the key and the settings of EvalScope's model API (--eval-type, --model-args)"
    elif waits and reason not in OF_THE_ACCOUNT:
        advice = f"the endpoint asks to come back in {(request.retry_after_s or 0) / 60:,.0f} minutes"
    else:
        keys = (reason, status, kind)
        advice = next((_ADVICE[key] for key in keys if key in _ADVICE), "look at the endpoint and at the log")
    return _Failed(
        label=f"{kind.value} {status}" if status is not None else kind.value,
        detail=f"{kind.value}: {request.failure.detail}",
        advice=advice,
        reason=reason,
        refused=refused,
        everywhere=everywhere and not of_request and not (answered and kind is _NO_API),
        of_account=of_account,
        waits=waits,
    )


def _fails_again(before: FailedRequest, request: FailedRequest) -> bool:
    """Whether a request failed in the same way in the session before, and the way may lie with its row."""
    kind = request.failure.failure_class
    same = (before.failure.failure_class, before.status) == (kind, request.status)
    return same and kind is not FailureClass.CONNECTION_FAILED
