"""Stop early where every request is bound to fail: one clear line instead of 2,000 failures."""

from __future__ import annotations

from collections import Counter

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.errors import EndpointError

_ALIKE_AT_ONCE = 3
"""Failures of a kind that no later request can escape: credentials, credit, model, address."""

_ALIKE_REFUSED = 8
"""Requests refused alike (400, 422): the parameters, or rows that only look alike."""

_ALIKE = 16
"""Failures of any other kind."""

_ADVICE = {
    400: "the endpoint refuses the request: check the parameters and the model name",
    401: "check the API key (--api-key, or K2_VERIFIER_API_KEY for k2-verifier)",
    402: "the account has no credit",
    403: "the API key may not use this model",
    404: "check the model name (--model) and the API URL (--api-url)",
    422: "the endpoint refuses the parameters",
}


class FailFast:
    """Watch the first requests of a run."""

    def __init__(self, total: int) -> None:
        """Start watching.

        Args:
            total: Requests that the run is to make.
        """
        self._total = total
        self._succeeded = False
        self._alike: Counter[tuple[FailureClass, int | None]] = Counter()

    def succeeded(self) -> None:
        """Note an answer: from now on, failures are single ones."""
        self._succeeded = True

    def failed(self, failure: Failure, status: int | None) -> None:
        """Note a request that failed for good.

        Raises:
            EndpointError: If the first requests all failed alike and none succeeded.
        """
        if self._succeeded:
            return
        self._alike[failure.failure_class, status] += 1
        if len(self._alike) > 1:
            return
        count = self._alike[failure.failure_class, status]
        if count >= self._limit(failure.failure_class, status):
            advice = self._advice(failure.failure_class, status)
            raise EndpointError(
                f"stopped: the first {count} requests all failed alike and none succeeded: "
                f"{failure.failure_class.value}: {failure.detail}. Advice: {advice}"
            )

    def _limit(self, kind: FailureClass, status: int | None) -> int:
        if kind in (FailureClass.CONNECTION_FAILED, FailureClass.NOT_A_COMPLETION) or status in (
            401,
            402,
            403,
            404,
        ):
            return min(_ALIKE_AT_ONCE, self._total)
        if status in (400, 422):
            return min(_ALIKE_REFUSED, self._total)
        return _ALIKE

    @staticmethod
    def _advice(kind: FailureClass, status: int | None) -> str:
        if status in _ADVICE:
            return _ADVICE[status]
        if kind is FailureClass.CONNECTION_FAILED:
            return "check the API URL (--api-url); is the server running?"
        if kind is FailureClass.NOT_A_COMPLETION:
            return "is this the URL of an OpenAI-compatible API, up to and including /v1?"
        return "see the log for the single failures"
