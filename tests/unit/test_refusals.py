"""A server's words say what is in the way: the table of patterns, and what must not be read into it."""

from __future__ import annotations

import time

import pytest

from k2_verifier_adapter.core.refusals import RefusalReason as R
from k2_verifier_adapter.core.refusals import sort_refusal

SAID = {
    R.CREDIT: (
        "Your account org-1 <ak-1> is suspended due to insufficient balance, please recharge",
        "Insufficient Balance",
        "Insufficient credits. Add more using the page of credits",
        "Your credit balance is too low to access the API",
        "This request requires more credits, or fewer max_tokens",
        "账户余额不足",
    ),
    R.QUOTA: (
        "You exceeded your current quota, please check your plan and billing details",
        '{"error": {"message": "no", "type": "exceeded_current_quota_error"}}',
        '{"error": {"message": "no", "code": "insufficient_quota"}}',
        "You have exceeded your monthly quota",
    ),
    R.CONTEXT_LENGTH: (
        "The prompt is too long: 40177, model maximum context length: 32767",
        "This model's maximum context length is 8192 tokens. However, you requested 9000",
        "Invalid request: Your request exceeded model token limit: 131072",
        "Input token length too long",
    ),
    R.HISTORY: (
        "thinking is enabled but reasoning_content is missing in assistant tool call message at index 2",
        "Invalid request: text content is empty",
        "tool_call_id  is not found",
        "the message at position 3 with role 'assistant' must not be empty",
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each",
    ),
    R.SCHEMA_RULE: (
        "tools.function.parameters is not a valid moonshot flavored json schema, details: <At path 'root'>",
        "Invalid schema for function 'f': None is not of type 'object'",
        "the tool schema is not supported",
    ),
    R.SCHEMA_COMPILER: (
        "The provided JSON schema contains features not supported by xgrammar.",
        "Grammar error: Invalid Grammar",
        "Failed to compile the schema of get_tide",
    ),
    R.PARAMETER: (
        "invalid temperature: only 1 is allowed for this model",
        "Unsupported parameter: 'top_k'",
        "[{'type': 'extra_forbidden', 'loc': ('body', 'top_k')}]",
    ),
    R.TOOL_NAME: (
        "Invalid request: function name is invalid, must start with a letter",
        "Invalid 'tools[0].function.name': string does not match pattern.",
    ),
    R.SIZE: ("<h1>413 Request Entity Too Large</h1>", "Payload Too Large"),
    R.MODEL: (
        "The model `kimi` does not exist or you do not have access to it.",
        "Not found the model kimi or Permission denied",
    ),
    R.CONTENT: ("The request was rejected because it was considered high risk", '"code": "content_filter"'),
    None: (
        "simulated fault: HTTP 400",
        "The engine is currently overloaded, please try again later",
        "request reached project TPM rate limit, current: 1410, limit: 100",
        "Internal Server Error",
        "bad gateway",
        "",
    ),
}


@pytest.mark.parametrize(("reason", "words"), [(reason, words) for reason in SAID for words in SAID[reason]])
def test_a_refusal_is_sorted_by_its_words(reason, words):
    """Messages as public reports have them are sorted by what they say, and others are not."""
    assert sort_refusal(words) is reason
    assert sort_refusal(f'HTTP 400: {{"error": {{"message": "{words}"}}}}') is reason


def test_what_an_error_quotes_behind_its_words_decides_nothing():
    """A prompt that speaks of money, echoed by an error, is not taken for the server's words."""
    assert sort_refusal(f"Field required: messages. {'x' * 600} insufficient balance") is None


def test_hostile_words_cost_no_time():
    """Megabytes of beginnings of every pattern are sorted at once."""
    hostile = ("account " * 50 + "reasoning_content tool_call_id model function name schema ") * 10_000
    began = time.process_time()
    sort_refusal(hostile)
    assert time.process_time() - began < 1
