"""One line of a results file with the official answer it is held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from k2_verifier_adapter.core.cases import OfficialAnswer
from k2_verifier_adapter.core.history import Repairs
from k2_verifier_adapter.core.judgement import FailedRequest, Judgement
from k2_verifier_adapter.core.responses import Response
from k2_verifier_adapter.offline.scoring.official_index import OfficialIndex


@dataclass(frozen=True, slots=True)
class LoggedCase:
    """What is known of one logged request; see `core.judging.judge.CaseLike`.

    Attributes:
        index: The 0-based row number that reports show.
        data_index: Upstream's 1-based number.
        answers: The official answers.
        position: Its own among them.
        official: The same, without its calls.
        repairs: Repairs that were made in the messages.
        own_tools: The tools that the line holds; None if it holds none, or rows do.
        own_messages: The messages that the line holds.
    """

    index: int
    data_index: int
    answers: OfficialIndex
    position: int
    official: OfficialAnswer
    repairs: Repairs
    own_tools: Any
    own_messages: Any = None

    def tools(self) -> Any:
        """Give the tools that the response is judged against."""
        return self.answers.tools(self.position) if self.own_tools is None else self.own_tools

    def official_tool_calls(self) -> list[Any] | None:
        """Read the official calls; None if they are not known."""
        return self.answers.calls(self.position)

    def messages(self) -> list[Any] | None:
        """Give the messages of the request; None if the line does not hold them."""
        return self.own_messages if isinstance(self.own_messages, list) else None

    @property
    def official_failed(self) -> bool:
        """Whether the official request failed, which then counts as "did not call"."""
        return self.answers.answer(self.position) is None


@dataclass(frozen=True, slots=True)
class ScoredLine:
    """What one line was judged to be.

    Attributes:
        case: Its request and the official answer.
        repeat: Which of the lines of its case that follow each other it is, from 0.
        judged: The judgement, or the failed request.
        logged: The response as it stands in the line; None if it is redacted.
        response: The same, read; None if there is no completion or it is redacted.
        duration_s: Seconds that the answer took; None if the line does not say.
        redacted: Whether the line holds no texts, and was taken as logged.
    """

    case: LoggedCase
    repeat: int
    judged: Judgement | FailedRequest
    logged: Any = None
    response: Response | None = None
    duration_s: float | None = None
    redacted: bool = False
