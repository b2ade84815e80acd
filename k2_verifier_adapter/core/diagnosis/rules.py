"""All rules of the diagnosis."""

from __future__ import annotations

from k2_verifier_adapter.core.diagnosis.of_answers import DECISION_RULES, END_RULES, TEXT_RULES
from k2_verifier_adapter.core.diagnosis.of_calls import ARGUMENT_RULES, NAME_RULES, STREAM_RULES
from k2_verifier_adapter.core.diagnosis.of_requests import REQUEST_RULES, ROW_RULES
from k2_verifier_adapter.core.diagnosis.rule import Rule

RULES: tuple[Rule, ...] = (
    *TEXT_RULES,
    *END_RULES,
    *DECISION_RULES,
    *ARGUMENT_RULES,
    *NAME_RULES,
    *STREAM_RULES,
    *REQUEST_RULES,
    *ROW_RULES,
)
"""All rules; of findings that explain as much, the earlier rule's comes first."""
