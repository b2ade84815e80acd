"""The failed cases of a run or a log, for a reader who wants to see them."""

from k2_verifier_adapter.reports.failed_cases.case import MOST_CASES, Call, FailedCase, Turn
from k2_verifier_adapter.reports.failed_cases.views import answered_case, request_case

__all__ = [
    "MOST_CASES",
    "Call",
    "FailedCase",
    "Turn",
    "answered_case",
    "request_case",
]
