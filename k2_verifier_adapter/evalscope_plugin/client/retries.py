"""Which failed attempts are worth another one, and when."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime

from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.refusals import OF_THE_ACCOUNT, OF_THE_REQUEST, RefusalReason

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
_OF_ALL_REQUESTS = frozenset({401, 402, 403, 404, 407})
"""Refusals of the key, the account, the model or the way, unless the words speak of the request."""

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
        reason: RefusalReason | None = None,
        others_answered: bool = False,
    ) -> float | None:
        """Give the seconds to wait before the next attempt, or None if this failure is final.

        Args:
            failure_class: What the attempt ended in.
            status: Its HTTP status, if there was one.
            retry_after_s: The server's `Retry-After`, if there was one.
            proven: Whether the endpoint has answered any request at all; before that, what looks like a wrong
                address gets one quick retry instead of the whole budget.
            reason: What the server's words are about.
            others_answered: Whether the endpoint answers others meanwhile, or nobody else waits for it: then
                it need not recover, and the pauses do not grow.
        """
        if retry_after_s is not None and retry_after_s > MAX_RETRY_AFTER_S:
            return None
        if failure_class is FailureClass.RATE_LIMITED:
            return self._rate_limited(retry_after_s, reason)
        if failure_class not in _TRANSIENT and status not in _RETRIED_STATUSES:
            return None
        if reason in OF_THE_ACCOUNT or is_refusal(failure_class, status, reason):
            return None
        unproven = not proven and failure_class in _WRONG_ADDRESS
        once = unproven or failure_class is FailureClass.TIMED_OUT
        if self._used >= (min(1, self._policy.retries) if once else self._policy.retries):
            return None
        delay = self._backoff(0 if others_answered else self._used)
        self._used += 1
        if unproven:
            delay = min(delay, UNPROVEN_DELAY_S)
        return max(delay, retry_after_s or 0.0)

    def _rate_limited(self, retry_after_s: float | None, reason: RefusalReason | None) -> float | None:
        # Some say "quota" of a limit that is renewed every minute; they say when.
        if reason is RefusalReason.CREDIT or (reason is RefusalReason.QUOTA and not retry_after_s):
            return None
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

    def _backoff(self, attempt: int) -> float:
        longest = max(MAX_DELAY_S, self._policy.interval_s)
        delay = min(self._policy.interval_s * 2.0 ** min(attempt, 16), longest)
        return delay * self._rng.uniform(0.75, 1.25)


def is_refusal(failure_class: FailureClass, status: int | None, reason: RefusalReason | None = None) -> bool:
    """Whether it is the request that is refused, so that the same one will be refused again.

    A 500 is a refusal where its body says what is wrong with the request: engines answer so where a grammar
    cannot be made of a schema.
    """
    if failure_class is FailureClass.HTTP_4XX:
        of_others = status in _OF_ALL_REQUESTS and reason not in OF_THE_REQUEST
        return status not in _RETRIED_STATUSES and reason not in OF_THE_ACCOUNT and not of_others
    if failure_class is FailureClass.HTTP_5XX:
        return status == 500 and reason in OF_THE_REQUEST
    return failure_class in (FailureClass.RESPONSE_TOO_LARGE, FailureClass.OTHER_PROVIDER)


def retry_after_seconds(value: str | None, now: float) -> float | None:
    """Read a `Retry-After` header, in seconds or as a date; None if absent or unreadable."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(value)
        # HTTP knows no other zone than GMT, and some servers leave it out.
        return max(0.0, date.replace(tzinfo=date.tzinfo or timezone.utc).timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return None
