"""A server's words say what is in the way: the table of patterns, and what must not be read into it."""

from __future__ import annotations

import time

import pytest

from k2_verifier_adapter.core.refusals import RefusalReason as R
from k2_verifier_adapter.core.refusals import sort_refusal

SAID = {
    R.CREDIT: (
        "Your account org-xx <ak-yy> is suspended, please check your plan and billing details",
        "Your account org-… is suspended due to insufficient balance, please recharge your account or check your plan and billing details",
        "Insufficient credits. Add more using https://openrouter.ai/settings/credits",
        "Payment Required",
        "Access denied, please make sure your account is in good standing. Arrearage",
        "AccountOverdueError: The request failed because your account has an overdue balance.",
        "Credit limit exceeded, please navigate to billing",
        "You have run out of credits",
        "Sorry, your account balance is insufficient",
        "not enough balance",
        "您的账户余额不足,请充值",
        "This request requires more credits, or fewer max_tokens.",
        "Your account org-1 <ak-1> is suspended due to insufficient balance, please recharge",
        "Insufficient Balance",
        "Insufficient credits. Add more using the page of credits",
        "Your credit balance is too low to access the API",
        "This request requires more credits, or fewer max_tokens",
        "账户余额不足",
    ),
    R.QUOTA: (
        "Free allocated quota exceeded.",
        "Allocated quota exceeded, please increase your quota limit.",
        "You've reached your usage limit for this billing cycle",
        "Daily request limit reached: limit_rpd",
        "You have exceeded your monthly included credits",
        "tokens per day (TPD): Limit 500000",
        "You exceeded your current quota, please check your plan and billing details",
        '{"error": {"message": "no", "type": "exceeded_current_quota_error"}}',
        '{"error": {"message": "no", "code": "insufficient_quota"}}',
        "You have exceeded your monthly quota",
    ),
    R.CONTEXT_LENGTH: (
        "This model's maximum context length is 131072 tokens. However, you requested 140000 tokens",
        "Invalid request: Your request exceeded model token limit: 262144",
        "Requested token count exceeds the model's maximum context length of 131072 tokens.",
        "The input (150000 tokens) is longer than the model's context length (131072 tokens).",
        "Input length 200000 exceeds the maximum allowed length 131072",
        "prompt is too long: 209000 tokens > 200000 maximum",
        "The decoder prompt (length 40000) is longer than the maximum model length of 32768.",
        "Range of input length should be [1, 129024]",
        "input tokens exceeds the limit",
        "This endpoint's maximum context length is 131072 tokens. However, you requested about 150000 tokens",
        "Please reduce the length of the messages or completion.",
        "inputs tokens + max_new_tokens must be <= 131072",
        "The prompt is too long: 40177, model maximum context length: 32767",
        "This model's maximum context length is 8192 tokens. However, you requested 9000",
        "Invalid request: Your request exceeded model token limit: 131072",
        "Input token length too long",
    ),
    R.HISTORY: (
        "The `reasoning_content` in the thinking mode must be passed back to the API.",
        "Invalid request: the message at position 3 with role 'assistant' must not be empty",
        "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.",
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'.",
        "Missing tool response for tool_call_id call_1",
        "duplicate tool_call_id",
        "Unexpected role 'developer'",
        "Invalid role: developer. Allowed: system, user, assistant, tool",
        "Conversation roles must alternate user/assistant/user/assistant",
        "Unexpected message role.",
        "messages: roles must alternate",
        "invalid character 'x' in tool_calls arguments: Expecting value: line 1 column 1 (char 0)",
        "last message must be from user",
        "thinking is enabled but reasoning_content is missing in assistant tool call message at index 2",
        "Invalid request: text content is empty",
        "tool_call_id  is not found",
        "the message at position 3 with role 'assistant' must not be empty",
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each",
    ),
    R.SCHEMA_RULE: (
        "tools.function.parameters is not a valid moonshot flavored json schema, details: <At path 'properties.x': type is not defined>",
        "Invalid schema for function 'f': In context=('properties', 'a'), array schema missing items.",
        "tools[3].function.parameters: $ref is not supported",
        "schema must have a 'type' key",
        "'oneOf' is not permitted",
        "JSON schema is invalid. It must match JSON Schema draft 2020-12",
        "tools.function.parameters is not a valid moonshot flavored json schema, details: <At path 'root'>",
        "Invalid schema for function 'f': None is not of type 'object'",
        "the tool schema is not supported",
    ),
    R.SCHEMA_COMPILER: (
        "Failed to compile grammar",
        "Invalid grammar request with cache hit=False: ('structural_tag', ...)",
        'Grammar error: Unimplemented keys: ["patternProperties"]',
        "[14:22:01] /workspace/cpp/json_schema_converter.cc:795: Check failed: Unsupported regex",
        "Error compiling guided decoding request: outlines",
        "Failed to build FSM for schema",
        "The provided JSON schema contains features not supported by xgrammar.",
        "Grammar error: Invalid Grammar",
        "Failed to compile the schema of get_tide",
    ),
    R.PARAMETER: (
        "max_tokens must be at least 1, got 0",
        "'max_tokens' is too large: 200000",
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "n must be 1",
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
        "tool_choice 'required' is incompatible with thinking enabled",
        "tool_choice is not supported by this model",
        "tools is not supported in this model",
        "No endpoints found that support tool use",
        "litellm.UnsupportedParamsError: openai does not support parameters: ['top_k']",
        "stream_options is only allowed when stream is true",
        "temperature must be between 0 and 1",
        "Additional properties are not allowed ('foo' was unexpected)",
        "invalid temperature: only 1 is allowed for this model",
        "Unsupported parameter: 'top_k'",
        "[{'type': 'extra_forbidden', 'loc': ('body', 'top_k')}]",
    ),
    R.TOOL_NAME: (
        "Invalid 'tools[0].function.name': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.",
        "Invalid request: function name is invalid, must start with a letter and can contain letters, numbers, underscores, and dashes",
        "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'",
        "Tool names must be unique. duplicate function name",
        "function name x is duplicated",
        "Invalid function name: contains a dot",
        "Invalid request: function name is invalid, must start with a letter",
        "Invalid 'tools[0].function.name': string does not match pattern.",
    ),
    R.SIZE: (
        "<h1>413 Request Entity Too Large</h1>",
        "Payload Too Large",
        "Exceeded limit on max bytes per request body: 4194304",
        "Request body too large. Maximum size is 1 MB",
        "too many tools: 200, at most 128",
        "Invalid 'tools': array too long. Expected an array with maximum length 128, but got an array with length 200 instead.",
    ),
    R.MODEL: (
        "The model `kimi-k2` does not exist or you do not have access to it.",
        "Not found the model kimi-x or Permission denied",
        "No endpoints found for moonshotai/kimi-k9.",
        "moonshotai/kimi-k9 is not a valid model ID",
        "Unknown model: kimi",
        "model 'kimi' not found, try pulling it first",
        "No deployments available for selected model",
        "The model `kimi` does not exist or you do not have access to it.",
        "Not found the model kimi or Permission denied",
    ),
    R.CONTENT: (
        "The request was rejected because it was considered high risk",
        '"code": "content_filter"',
        "Input data may contain inappropriate content.",
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        "Content Exists Risk",
        "输入内容包含敏感信息",
        "Request blocked by content moderation",
        "Your request was flagged as potentially violating our usage policy",
    ),
    None: (
        "Rate limit reached for requests per minute, please try again in 1s",
        "Your account org-x request reached organization max RPM: 20, please try again after 1 seconds",
        "Internal server error",
        "upstream connect error or disconnect/reset before headers",
        "Bad Request",
        "the tool find_balance got an argument that is not a string",
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
