"""What the responses of a run say of themselves: who served them, how long they took, what they cost."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from k2_verifier_adapter.core.counts import count_text, merge_texts
from k2_verifier_adapter.core.gateways import router_of
from k2_verifier_adapter.core.judged import Item
from k2_verifier_adapter.core.judgement import FailedRequest
from k2_verifier_adapter.core.printable import plural
from k2_verifier_adapter.core.responses import reported_tokens

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """What a million tokens cost, in whatever currency; None where it is not given."""

    prompt: float | None = None
    completion: float | None = None


NO_PRICES = Prices()


@dataclass(slots=True)
class Spent:
    """What a run has cost, by the answers and failed requests that are kept of it.

    Attributes:
        requests: Requests that were sent, retries included.
        silent: Answers that report no tokens.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    silent: int = 0

    def add(self, item: Item) -> None:
        """Take in what became of one request, under way at a decision or not."""
        self.requests += item.attempts
        if not isinstance(item, FailedRequest):
            completion = item.response.completion
            prompt, answer = (
                reported_tokens(completion, f"{kind}_tokens") for kind in ("prompt", "completion")
            )
            self.prompt_tokens += prompt
            self.completion_tokens += answer
            self.silent += not prompt + answer

    def price(self, prices: Prices) -> float | None:
        """Give what the reported tokens cost; None without prices, or if no answer reports any."""
        tokens = self.prompt_tokens + self.completion_tokens
        if prices == NO_PRICES or not tokens:
            return None
        prompt, completion = prices.prompt or 0.0, prices.completion or 0.0
        return (self.prompt_tokens * prompt + self.completion_tokens * completion) / _MILLION


@dataclass(slots=True)
class Observed:
    """What the responses say of themselves.

    Attributes:
        providers: Responses by the `provider` field, which routers set.
        gateways: Responses by what they say that they passed through.
        not_raw: Responses that passed through EvalScope's own parsing.
        masked: Responses of which a secret was taken out of what is judged.
        retried: Responses that took more than one attempt.
    """

    models: Counter[str] = field(default_factory=Counter)
    providers: Counter[str] = field(default_factory=Counter)
    system_fingerprints: Counter[str] = field(default_factory=Counter)
    gateways: Counter[str] = field(default_factory=Counter)
    usage: Counter[str] = field(default_factory=Counter)
    durations_s: array[float] = field(default_factory=lambda: array("d"))
    not_raw: int = 0
    masked: int = 0
    retried: int = 0

    def add(
        self,
        completion: Mapping[str, Any],
        duration_s: float | None,
        *,
        raw: bool = True,
        masked: bool = False,
        attempts: int = 1,
        gateways: Iterable[str] = (),
    ) -> None:
        """Take in one completion; `gateways` are those that its headers named."""
        router = router_of(completion)
        for gateway in dict.fromkeys((*gateways, router) if router else gateways):
            count_text(self.gateways, gateway)
        for counter, name in (
            (self.models, "model"),
            (self.providers, "provider"),
            (self.system_fingerprints, "system_fingerprint"),
        ):
            value = completion.get(name)
            if isinstance(value, str) and value:
                count_text(counter, value)
        for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
            tokens = reported_tokens(completion, name)
            if tokens:
                self.usage[name] += tokens
        if duration_s is not None:
            self.durations_s.append(duration_s)
        self.not_raw += not raw
        self.masked += masked
        self.retried += attempts > 1

    def merge(self, other: Observed) -> None:
        """Take in what other responses say."""
        merge_texts(self.models, other.models)
        merge_texts(self.providers, other.providers)
        merge_texts(self.system_fingerprints, other.system_fingerprints)
        merge_texts(self.gateways, other.gateways)
        self.usage += other.usage
        self.durations_s.extend(other.durations_s)
        self.not_raw += other.not_raw
        self.masked += other.masked
        self.retried += other.retried

    @property
    def mixed(self) -> str | None:
        """A warning if more than one model or provider answered under one name, else None."""
        for what, counter in (("models", self.models), ("providers", self.providers)):
            if len(counter) > 1:
                names = ", ".join(f"{name} ({count})" for name, count in counter.most_common(5))
                return f"several {what} answered under one name: {names}"
        return None

    @property
    def altered(self) -> str | None:
        """Why there is no verdict if a mask stands in what is judged, else None."""
        if not self.masked:
            return None
        found = plural(self.masked, "response")
        return (
            f"a credential of the run stood in finish_reason or tool calls of {found}, and was masked there"
        )

    def latency(self) -> dict[str, float | None]:
        """Give the 50th and 95th percentile (nearest rank) and the maximum, in seconds."""
        ordered = sorted(self.durations_s)
        if not ordered:
            return {"p50": None, "p95": None, "max": None}
        nearest_rank = {share: ordered[ceil(share * len(ordered)) - 1] for share in (0.5, 0.95)}
        return {
            "p50": round(nearest_rank[0.5], 6),
            "p95": round(nearest_rank[0.95], 6),
            "max": round(ordered[-1], 6),
        }
