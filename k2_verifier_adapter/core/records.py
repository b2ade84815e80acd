"""What is stored of an answered or failed request, so that everything can be judged again offline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.core.json_text import number
from k2_verifier_adapter.core.judgement import FailedRequest, Judgement
from k2_verifier_adapter.core.requests import RequestIdentity

METADATA_KEY = "k2_verifier"
"""Key of the record in a prediction's `model_output.metadata` and in a review's score metadata."""

_OK = 200


@dataclass(frozen=True, slots=True)
class ResponseRecord:
    """One answered request, as stored with EvalScope's prediction.

    Attributes:
        response: The raw completion as ASCII-escaped JSON text; of a stream, the completion that
            its chunks were assembled to.
        stream_anomalies: Stream failure classes noticed while it was assembled.
        attempts: Requests sent until the answer came.
        duration_s: Seconds from the request that was answered to the end of the answer.
        ttft_s: Seconds to the first content, reasoning or call; None if not streamed.
        finished_at: When the answer was complete, ISO 8601 with UTC offset.
        raw: False where an API that is not OpenAI-compatible was asked through EvalScope, whose
            own parsing then stands between the response and the judgement.
        masked: Whether a secret was taken out of what is judged.
        gateways: What its headers say that it passed through.
        status: The HTTP status; one other than 200 where refusals are answers, and then `response` is the
            server's words as JSON text.
        frames: What was wrong with the frames of a stream, by the names of `core.streams.frames`.
        usage_in_choice: Whether a stream reported its usage inside a choice.
    """

    case_index: int
    repeat: int
    response: str
    stream_anomalies: tuple[FailureClass, ...]
    request: RequestIdentity
    attempts: int
    duration_s: float
    ttft_s: float | None
    finished_at: str
    raw: bool = True
    masked: bool = False
    gateways: tuple[str, ...] = ()
    status: int = 200
    frames: tuple[str, ...] = ()
    usage_in_choice: bool = False

    def as_json(self) -> dict[str, Any]:
        """Give the stored form."""
        return {
            "case": self.case_index,
            "repeat": self.repeat,
            "response": self.response,
            "stream_anomalies": [kind.value for kind in self.stream_anomalies],
            "request": self.request.as_json(),
            "attempts": self.attempts,
            "duration_s": round(self.duration_s, 6),
            "ttft_s": None if self.ttft_s is None else round(self.ttft_s, 6),
            "finished_at": self.finished_at,
            "raw": self.raw,
            **({"masked": True} if self.masked else {}),
            **({"gateways": list(self.gateways)} if self.gateways else {}),
            **({"status": self.status} if self.status != _OK else {}),
            **({"frames": list(self.frames)} if self.frames else {}),
            **({"usage_in_choice": True} if self.usage_in_choice else {}),
        }

    @classmethod
    def from_json(cls, value: Any) -> ResponseRecord | None:
        """Read the stored form back; None if it is not one."""
        if not isinstance(value, Mapping):
            return None
        request = RequestIdentity.from_json(value.get("request"))
        try:
            if request is None or not isinstance(value["response"], str):
                return None
            ttft = value.get("ttft_s")
            return cls(
                case_index=int(value["case"]),
                repeat=int(value.get("repeat", 0)),
                response=value["response"],
                stream_anomalies=tuple(map(FailureClass, value.get("stream_anomalies", ()))),
                request=request,
                attempts=int(value.get("attempts", 1)),
                duration_s=number(value.get("duration_s", 0.0)),
                ttft_s=None if ttft is None else number(ttft),
                finished_at=str(value.get("finished_at", "")),
                raw=bool(value.get("raw", True)),
                masked=bool(value.get("masked", False)),
                gateways=tuple(map(str, value.get("gateways", ()))),
                status=int(value.get("status", _OK)),
                frames=tuple(map(str, value.get("frames", ()))),
                usage_in_choice=bool(value.get("usage_in_choice", False)),
            )
        except (KeyError, OverflowError, TypeError, ValueError):
            return None


def failed_request_as_json(request: FailedRequest) -> dict[str, Any]:
    """Give the stored form of a failed request."""
    return {
        "case": request.case_index,
        "repeat": request.repeat,
        "failure": request.failure.as_json(),
        "status": request.status,
        "attempts": request.attempts,
        "duration_s": round(request.duration_s, 6),
    }


def failed_request_from_json(value: Any) -> FailedRequest | None:
    """Read the stored form of a failed request back; None if it is not one."""
    try:
        failure = value["failure"]
        status = value.get("status")
        return FailedRequest(
            case_index=int(value["case"]),
            repeat=int(value.get("repeat", 0)),
            failure=Failure(FailureClass(failure["class"]), str(failure["detail"])),
            status=None if status is None else int(status),
            attempts=int(value.get("attempts", 1)),
            duration_s=number(value.get("duration_s", 0.0)),
        )
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return None


def judgement_as_json(case_index: int, judgement: Judgement) -> dict[str, Any]:
    """Give the form in which a review's metadata holds a judgement."""
    primary = judgement.primary
    return {
        "case": case_index,
        "finish_reason": judgement.finish_reason,
        "bucket": judgement.bucket.value,
        "tool_calls_valid": judgement.tool_calls_valid,
        "should_call": judgement.should_call,
        "official_bucket": judgement.official_bucket.value,
        "official_valid": judgement.official_valid,
        "same_names": judgement.same_names,
        "argument_agreement": judgement.argument_agreement,
        "repaired": judgement.repaired,
        "primary": None if primary is None else primary.value,
        "failures": [failure.as_json() for failure in judgement.failures],
        "if_fixed": {
            fix.failure_class.value: {"calls": fix.calls, "valid": fix.valid} for fix in judgement.fixes
        },
        "notes": [note.as_json() for note in judgement.notes],
        "tools": {use.name: {"calls": use.calls, "invalid": use.invalid} for use in judgement.tools},
    }
