"""Which failed attempts are worth another one, and when; and when a whole run is hopeless."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.errors import EndpointError

MAX_DELAY_S = 60.0
"""Longest pause of the exponential backoff, unless the user's interval is longer."""

MAX_RETRY_AFTER_S = 600.0
"""Longest `Retry-After` that is waited for; a vendor that asks for more has failed the request."""

RATE_LIMIT_WAIT_S = 60.0
"""Seconds of waiting for a rate limit that each of the user's retries stands for."""

LEAST_RATE_LIMIT_CHARGE_S = 5.0
"""Seconds that one wait for a rate limit is charged at least, so that a vendor that says 429 for ever,
with nothing to wait for, is given up."""

UNPROVEN_DELAY_S = 1.0
"""Pause before the single retry while the endpoint has not answered at all yet."""

_RETRIED_STATUSES = frozenset({408, 409, 425})
_TRANSIENT = frozenset(
    {
        FailureClass.HTTP_5XX,
        FailureClass.CONNECTION_FAILED,
        FailureClass.CONNECTION_RESET,
        FailureClass.TIMED_OUT,
        FailureClass.STREAM_CUT,
        FailureClass.STREAM_ERROR_EVENT,
        FailureClass.NOT_A_COMPLETION,
    }
)
_WRONG_ADDRESS = frozenset({FailureClass.CONNECTION_FAILED, FailureClass.NOT_A_COMPLETION})
"""What a wrong URL looks like: soon repeated alike, never better."""

_AT_ONCE = 3
"""Failures alike of a kind that no later request can escape: credentials, credit, model, address."""

_REFUSED = 8
"""Requests refused alike: the parameters, or rows that only look alike."""

_HOPELESS: Mapping[int | FailureClass, tuple[int, str]] = {
    400: (_REFUSED, "the endpoint refuses the request: check the parameters and the model name"),
    401: (_AT_ONCE, "check the API key (--api-key, or K2_VERIFIER_API_KEY for k2-verifier)"),
    402: (_AT_ONCE, "the account has no credit"),
    403: (_AT_ONCE, "the API key may not use this model"),
    404: (_AT_ONCE, "check the model name (--model) and the API URL (--api-url)"),
    422: (_REFUSED, "the endpoint refuses the parameters"),
    FailureClass.CONNECTION_FAILED: (_AT_ONCE, "check the API URL (--api-url); is the server running?"),
    FailureClass.NOT_A_COMPLETION: (
        _AT_ONCE,
        "is this the URL of an OpenAI-compatible API, up to and including /v1?",
    ),
}
"""By status, else by class: so many failures alike from the first on end a run, with this advice."""

_NUMBERED = re.compile(r"\S*\d\S*")
"""Words with a digit: numbers, times, ids of requests."""

_ANY_OTHER = (16, "see the log for the single failures")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The user's settings: EvalScope's `retries` and `retry_interval`.

    Attributes:
        retries: Further attempts after the first; 429 does not use them up, but waits within
            `retries` times `RATE_LIMIT_WAIT_S`.
        interval_s: First pause; doubled after each attempt up to `MAX_DELAY_S`, with 25 % jitter.
    """

    retries: int = 5
    interval_s: float = 10.0


class RetryBudget:
    """What one request has left of its retries."""

    def __init__(self, policy: RetryPolicy, rng: random.Random) -> None:
        self._policy = policy
        self._rng = rng
        self._used = 0
        self._waits = 0
        self._charged_s = 0.0

    def next_delay(
        self,
        failure_class: FailureClass,
        status: int | None,
        retry_after_s: float | None,
        *,
        proven: bool,
    ) -> float | None:
        """Give the seconds to wait before the next attempt, or None if this failure is final.

        `proven` says that the endpoint has answered any request at all; before that, what looks like a wrong
        address gets one quick retry instead of the whole budget.
        """
        if retry_after_s is not None and retry_after_s > MAX_RETRY_AFTER_S:
            return None
        if failure_class is FailureClass.RATE_LIMITED:
            # A `Retry-After: 0` or a date gone by says nothing of when; the user's interval does.
            delay = retry_after_s or self._backoff(self._waits)
            charge = max(delay, LEAST_RATE_LIMIT_CHARGE_S)
            if self._policy.retries <= 0 or (
                self._waits and self._charged_s + charge > self._policy.retries * RATE_LIMIT_WAIT_S
            ):
                return None
            self._waits += 1
            self._charged_s += charge
            return delay
        if failure_class not in _TRANSIENT and status not in _RETRIED_STATUSES:
            return None
        unproven = not proven and failure_class in _WRONG_ADDRESS
        if self._used >= (min(1, self._policy.retries) if unproven else self._policy.retries):
            return None
        delay = self._backoff(self._used)
        self._used += 1
        if unproven:
            delay = min(delay, UNPROVEN_DELAY_S)
        return max(delay, retry_after_s or 0.0)

    def _backoff(self, attempt: int) -> float:
        longest = max(MAX_DELAY_S, self._policy.interval_s)
        delay = min(self._policy.interval_s * 2.0 ** min(attempt, 16), longest)
        return delay * self._rng.uniform(0.75, 1.25)


def retry_after_seconds(value: str | None, now: float) -> float | None:
    """Read a `Retry-After` header, in seconds or as a date; None if absent or unreadable."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return None


class FailFast:
    """Watch the first requests of a run: one clear line instead of 2,000 failures."""

    def __init__(self, total: int, *, raw: bool = True) -> None:
        """Start watching a run that is to make `total` requests.

        Failures that EvalScope reports, not `raw`, have all one class; they are alike if their words are.
        """
        self._total = total
        self._raw = raw
        self._succeeded = False
        self._alike: Counter[tuple[FailureClass, int | None, str]] = Counter()

    def succeeded(self) -> None:
        """Note an answer: from now on, failures are single ones."""
        self._succeeded = True

    def failed(self, failure: Failure, status: int | None) -> None:
        """Note a request that failed for good; `EndpointError` if the first ones all failed alike."""
        if self._succeeded:
            return
        kind = failure.failure_class
        alike = kind, status, "" if self._raw else _NUMBERED.sub("", failure.detail)
        self._alike[alike] += 1
        if len(self._alike) > 1:
            return
        key = status if status is not None and status in _HOPELESS else kind
        most, advice = _HOPELESS.get(key, _ANY_OTHER)
        if not self._raw:
            advice = "check the key and the settings of EvalScope's model API (--eval-type, --model-args)"
        count = self._alike[alike]
        if count >= most or (key in _HOPELESS and count >= self._total):
            raise EndpointError(
                f"stopped: the first {count} requests all failed alike and none succeeded: "
                f"{kind.value}: {failure.detail}. Advice: {advice}"
            )
