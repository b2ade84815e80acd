"""The chat completion: choice 0 of a raw body, or the reason why there is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.json_text import (
    MAX_DEPTH,
    JsonTextError,
    check_values,
    excerpt,
    is_too_deep,
    shown,
)

_MOST_TOKENS = 1 << 40
"""No completion has as many tokens; what is beyond would only break sums and files."""


class FinishBucket(str, Enum):
    """The four ways in which upstream counts a finish_reason."""

    STOP = "stop"
    TOOL_CALLS = "tool_calls"
    OTHERS = "others"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Response:
    """Choice 0 of one chat completion, undistorted.

    Attributes:
        finish_reason: The literal finish_reason; None if it is null, absent, empty or no string
            at all is given (upstream: in no bucket).
        message: The message object, or None if it is null, absent or no object.
    """

    finish_reason: str | None
    message: Mapping[str, Any] | None
    completion: Mapping[str, Any]

    @property
    def bucket(self) -> FinishBucket:
        """The bucket that upstream counts this response in."""
        if self.finish_reason is None:
            return FinishBucket.MISSING
        if self.finish_reason == "stop":
            return FinishBucket.STOP
        if self.finish_reason == "tool_calls":
            return FinishBucket.TOOL_CALLS
        return FinishBucket.OTHERS

    @property
    def tool_calls(self) -> list[Any]:
        """The tool calls as they came; empty where upstream sees none.

        What is no list is one call that is none: upstream finds an invalid call in it.
        """
        calls = self.message.get("tool_calls") if self.message is not None else None
        if isinstance(calls, list):
            return calls
        return [[calls]] if calls else []


@dataclass(frozen=True, slots=True)
class NotACompletion:
    """Why a body is not a completion, so that the request counts as failed."""

    failure_class: FailureClass
    reason: str


def decode_body(body: bytes) -> str:
    """Decode a JSON body, by its byte order mark and its zeros as `json.loads` does."""
    return body.decode(json.detect_encoding(body), "replace")


def parse_completion(text: str) -> Response | NotACompletion:
    """Read a response body of status 200.

    Declared deviation 1: no completion, no judgement. A body that is not JSON, an error object and
    null or empty `choices` are failed requests, where upstream records most of them as successes.
    """
    try:
        check_values(text)
    except JsonTextError as error:
        return NotACompletion(FailureClass.RESPONSE_TOO_LARGE, str(error))
    try:
        completion = json.loads(text)
    except RecursionError:
        return _not_a_completion("the body is nested too deeply to parse")
    except ValueError as error:
        return _not_a_completion(f"the body is not JSON ({error}): {excerpt(text)!r}")
    # A text with few brackets cannot be nested deeply; counting them is faster than to walk the value.
    if text.count("[") + text.count("{") > MAX_DEPTH:
        return read_completion(completion)
    return _choice_0(completion)


def read_completion(completion: Any) -> Response | NotACompletion:
    """Read a decoded completion; see `parse_completion` for what counts as none.

    One that is nested deeper than `MAX_DEPTH` is none either: how far Python can follow it depends on
    the stack that it is called from, and a response must be the same whenever it is read.
    """
    if is_too_deep(completion):
        return _not_a_completion(f"the completion is nested deeper than {MAX_DEPTH} levels")
    return _choice_0(completion)


def _choice_0(completion: Any) -> Response | NotACompletion:
    if not isinstance(completion, dict):
        return _not_a_completion(f"the body is not an object: {shown(completion)}")
    choices = completion.get("choices")
    if not isinstance(choices, list) or not choices:
        error = completion.get("error")
        if error:
            return _not_a_completion(f"status 200 with an error object: {shown(error, 300)}")
        return _not_a_completion(f"no choice 0: choices is {shown(choices)}")
    choice = choices[0]
    if not isinstance(choice, dict):
        return _not_a_completion(f"choice 0 is not an object: {shown(choice)}")
    message = choice.get("message")
    return Response(
        finish_reason=literal_finish_reason(choice.get("finish_reason")),
        message=message if isinstance(message, dict) else None,
        completion=completion,
    )


def judged_alike(one: str, other: str) -> bool:
    """Whether two texts of a completion are the same in what decides: finish_reason and tool calls."""
    first, second = parse_completion(one), parse_completion(other)
    if isinstance(first, NotACompletion) or isinstance(second, NotACompletion):
        return False
    return first.finish_reason == second.finish_reason and first.tool_calls == second.tool_calls


def literal_finish_reason(value: Any) -> str | None:
    """Give the text under which upstream counts a finish_reason; None if it is in no bucket."""
    if isinstance(value, str):
        return value or None
    # Upstream counts any other truthy value among the others, under its own text.
    try:
        return json.dumps(value, ensure_ascii=True) if value else None
    except RecursionError:
        return shown(value)


def _not_a_completion(reason: str) -> NotACompletion:
    return NotACompletion(FailureClass.NOT_A_COMPLETION, reason)


def reported_tokens(completion: Mapping[str, Any], name: str) -> int:
    """Read a count out of a completion's `usage`; 0 where it gives none that can be one."""
    usage = completion.get("usage")
    value = usage.get(name) if isinstance(usage, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_TOKENS:
        return 0
    return value
