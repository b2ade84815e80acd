"""The named ways in which a response, a stream or a request can be wrong.

The names are part of the file formats: reports, review metadata and simulator profiles use them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Group(str, Enum):
    """The families of failure classes, by the part of a response that is wrong."""

    ARGUMENTS = "arguments"
    NAMES_AND_IDS = "names and ids"
    FINISH_AGAINST_PAYLOAD = "finish against payload"
    LEAKS = "leaks"
    NOTHING = "nothing"
    GENERATION = "generation"
    DECISION = "decision"
    NOT_THE_VENDORS = "not the vendor's"
    STREAM = "stream"
    TRANSPORT = "transport"


class FailureClass(str, Enum):
    """One named way of being wrong, group by group; the value is the name used in files."""

    TRUNCATED_JSON = "truncated_json"
    CONCATENATED_JSON = "concatenated_json"
    TRAILING_TEXT = "trailing_text"
    SINGLE_QUOTED_JSON = "single_quoted_json"
    EMPTY_ARGUMENTS = "empty_arguments"
    NOT_AN_OBJECT = "not_an_object"
    OTHER_INVALID_JSON = "other_invalid_json"
    MISSING_REQUIRED = "missing_required"
    UNEXPECTED_PROPERTY = "unexpected_property"
    WRONG_TYPE = "wrong_type"
    ENUM_VIOLATION = "enum_violation"
    OTHER_SCHEMA_VIOLATION = "other_schema_violation"

    UNDECLARED_TOOL = "undeclared_tool"
    TOOL_NAME_CASE_OR_PREFIX = "tool_name_case_or_prefix"
    NONSTANDARD_TOOL_CALL_ID = "nonstandard_tool_call_id"
    DUPLICATE_TOOL_CALL_ID = "duplicate_tool_call_id"
    TOOL_CALL_ID_REUSED = "tool_call_id_reused"

    FINISH_TOOL_CALLS_WITHOUT_CALLS = "finish_tool_calls_without_calls"
    CALLS_WITHOUT_FINISH_TOOL_CALLS = "calls_without_finish_tool_calls"
    FINISH_REASON_MISSING = "finish_reason_missing"
    FINISH_REASON_UNKNOWN = "finish_reason_unknown"
    TRUNCATED_BY_LENGTH = "truncated_by_length"
    CONTENT_FILTERED = "content_filtered"

    MARKUP_IN_CONTENT = "markup_in_content"
    MARKUP_IN_REASONING = "markup_in_reasoning"
    MARKUP_IN_ARGUMENTS = "markup_in_arguments"
    MARKUP_IN_TOOL_CALL_ID = "markup_in_tool_call_id"
    SPECIAL_TOKEN_LEAK = "special_token_leak"
    CALL_IN_CONTENT = "call_in_content"

    EMPTY_RESPONSE = "empty_response"
    REASONING_ONLY = "reasoning_only"

    DEGENERATE_TEXT = "degenerate_text"
    REPEATED_CALL = "repeated_call"

    MISSED_CALL = "missed_call"
    EXTRA_CALL = "extra_call"

    BROKEN_TOOL_SCHEMA = "broken_tool_schema"
    TOOL_WITHOUT_SCHEMA = "tool_without_schema"
    SCHEMA_TIMEOUT = "schema_timeout"

    STREAM_INDEX_MISSING = "stream_index_missing"
    STREAM_ID_MISSING = "stream_id_missing"
    STREAM_NAME_REPEATED = "stream_name_repeated"
    STREAM_IGNORED = "stream_ignored"
    STREAM_CUMULATIVE = "stream_cumulative"
    STREAM_EMPTY_TOOL_CALLS = "stream_empty_tool_calls"
    STREAM_MESSAGE_FOR_DELTA = "stream_message_for_delta"
    CALL_IN_OTHER_CHOICE = "call_in_other_choice"

    HTTP_4XX = "http_4xx"
    HTTP_5XX = "http_5xx"
    RATE_LIMITED = "rate_limited"
    CONNECTION_FAILED = "connection_failed"
    CONNECTION_RESET = "connection_reset"
    TIMED_OUT = "timed_out"
    STREAM_CUT = "stream_cut"
    STREAM_ERROR_EVENT = "stream_error_event"
    NOT_A_COMPLETION = "not_a_completion"
    RESPONSE_TOO_LARGE = "response_too_large"
    OTHER_PROVIDER = "other_provider"

    @property
    def group(self) -> Group:
        """The family this class belongs to."""
        return _GROUP_OF[self]


_FIRST_OF_GROUP = {
    FailureClass.TRUNCATED_JSON: Group.ARGUMENTS,
    FailureClass.UNDECLARED_TOOL: Group.NAMES_AND_IDS,
    FailureClass.FINISH_TOOL_CALLS_WITHOUT_CALLS: Group.FINISH_AGAINST_PAYLOAD,
    FailureClass.MARKUP_IN_CONTENT: Group.LEAKS,
    FailureClass.EMPTY_RESPONSE: Group.NOTHING,
    FailureClass.DEGENERATE_TEXT: Group.GENERATION,
    FailureClass.MISSED_CALL: Group.DECISION,
    FailureClass.BROKEN_TOOL_SCHEMA: Group.NOT_THE_VENDORS,
    FailureClass.STREAM_INDEX_MISSING: Group.STREAM,
    FailureClass.HTTP_4XX: Group.TRANSPORT,
}


def _group_of() -> dict[FailureClass, Group]:
    groups: dict[FailureClass, Group] = {}
    group = Group.ARGUMENTS
    for kind in FailureClass:
        group = groups[kind] = _FIRST_OF_GROUP.get(kind, group)
    return groups


_GROUP_OF = _group_of()


INVALID_JSON = frozenset(
    {
        FailureClass.TRUNCATED_JSON,
        FailureClass.CONCATENATED_JSON,
        FailureClass.TRAILING_TEXT,
        FailureClass.SINGLE_QUOTED_JSON,
        FailureClass.EMPTY_ARGUMENTS,
        FailureClass.OTHER_INVALID_JSON,
    }
)
"""The classes of arguments that are not JSON."""


class LeakedCall(str, Enum):
    """What can be read out of leaked markup; the value is the name used in files."""

    COMPLETE = "complete"
    INVALID = "invalid"


class Variant(str, Enum):
    """What else is known of a failure, where findings tell it from others of its class.

    A failure has one at most; the value is the name used in files.
    """

    CALL_DROPPED = "call_dropped"
    """Of an answer without a call where one was generated: its tokens, or its stream, show as much."""

    EMPTY_OBJECT_FITS = "empty_object_fits"
    """Of empty arguments, where `{}` would be valid."""

    FOREIGN = "foreign"
    """Of a special token, that of another model family."""

    FROM_HISTORY = "from_history"
    """Of a repeated call, that the history's last one is made once more."""

    NEARLY_STANDARD = "nearly_standard"
    """Of an id that tells a declared tool and a number in another form than K2's."""

    ABSENT = "absent"
    """Of an id that is missing or empty."""

    ABSENT_IN_STREAM = "absent_in_stream"
    """Of an id that no delta of a stream carried, as `stream_id_missing` says."""

    SENT_AGAIN = "sent_again"
    """Of arguments behind which they stand once more, as an encoded string."""

    THINK_TAG = "think_tag"
    """Of a special token, a think tag."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One observed failure of one response.

    Attributes:
        detail: One line for a person: the offending value and what was expected.
        call: 0-based position of the tool call in the response, or None if not about one call.
        tool: Name of the tool that was called, that was leaked, or that was not called; None if it is
            not about one tool.
        path: JSON path into the arguments (`$.city`), or None.
        keyword: The violated JSON Schema keyword, or None.
        marker: Of a leak, the first marker or token as it stands in the text, else None.
        where: Of a leak, the field of the message it was found in, else None.
        leaked_call: Of leaked markup, what calls can be read out of it: all `complete` (a declared tool
            with valid arguments) or not (`invalid`); None if none can.
        in_history: Of an undeclared tool, whether its name occurs in the request's messages; None if
            they are not known.
        variant: Which of the kinds of its class that findings tell apart, or None.
    """

    failure_class: FailureClass
    detail: str
    call: int | None = None
    tool: str | None = None
    path: str | None = None
    keyword: str | None = None
    marker: str | None = None
    where: str | None = None
    leaked_call: LeakedCall | None = None
    in_history: bool | None = None
    variant: Variant | None = None

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.failure_class.value}: {self.detail}"

    def as_json(self) -> dict[str, str | int]:
        """Give the JSON form: the class under `class`, and only the fields that are set."""
        fields = {
            "class": self.failure_class.value,
            "detail": self.detail,
            "call": self.call,
            "tool": self.tool,
            "path": self.path,
            "keyword": self.keyword,
            "marker": self.marker,
            "where": self.where,
            "leaked_call": None if self.leaked_call is None else self.leaked_call.value,
            "in_history": self.in_history,
            "variant": None if self.variant is None else self.variant.value,
        }
        return {name: value for name, value in fields.items() if value is not None}
