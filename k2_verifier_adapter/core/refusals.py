"""Why a server refuses a request, read from its own words.

The status does not say it: vendors answer 429 where the account is empty, and 500 where a schema cannot be
compiled. Only the beginning of the words is read, and every pattern is of bounded length, so that what an
error quotes of a request, behind its own words, and what a hostile server writes decide and cost nothing.
"""

from __future__ import annotations

import re
from enum import Enum


class RefusalReason(str, Enum):
    """What a server says is in the way; the value is the name used in files."""

    CREDIT = "credit"
    QUOTA = "quota"
    CONTEXT_LENGTH = "context_length"
    HISTORY = "history"
    SCHEMA_RULE = "schema_rule"
    SCHEMA_COMPILER = "schema_compiler"
    PARAMETER = "parameter"
    TOOL_NAME = "tool_name"
    SIZE = "size"
    MODEL = "model"
    CONTENT = "content"


OF_THE_ACCOUNT = frozenset({RefusalReason.CREDIT, RefusalReason.QUOTA})
"""What no other request of the same account escapes, and no waiting mends."""

OF_THE_REQUEST = frozenset(RefusalReason) - OF_THE_ACCOUNT - {RefusalReason.MODEL}
"""What lies with the single request: the same one is refused again, another one need not be."""

_READ = 600
"""Characters that are read: an error's own words come first."""

_PATTERNS: tuple[tuple[RefusalReason, str, str], ...] = (
    (
        RefusalReason.CREDIT,
        r"insufficient[ _-](?:account[ _-])?(?:balance|credits?|funds)\b|余额不足|欠费",
        "Moonshot's 429 (MoonshotAI/kimi-code pull request 1857), DeepSeek's and OpenRouter's 402",
    ),
    (
        RefusalReason.CREDIT,
        r"\bbalance is (?:too low|insufficient|not enough|negative|exhausted)\b|\bout of credits?\b",
        "Anthropic: Your credit balance is too low; SiliconFlow: account balance is insufficient",
    ),
    (
        RefusalReason.CREDIT,
        (
            r"\brequires more credits\b|\bmonthly spending limit\b"
            r"|\baccount\b.{0,120}\b(?:in arrears|overdue|suspended)\b"
        ),
        "OpenRouter's 402: This request requires more credits; Fireworks' 412: Account is suspended",
    ),
    (
        RefusalReason.QUOTA,
        r"\bexceeded[ _](?:your |the )?current[ _]quota|\binsufficient_quota\b",
        "OpenAI's 429 and its code; Moonshot's error type",
    ),
    (
        RefusalReason.QUOTA,
        r"\bexceeded your (?:\w{1,12} )?quota\b|\bquota (?:is )?exhausted\b|AccountQuotaExceeded",
        "Volcengine's error code; github/app issue 3166: You have exceeded your monthly quota",
    ),
    (
        RefusalReason.CONTEXT_LENGTH,
        r"\bmaximum context length\b|\bcontext[ _]length[ _]exceeded\b",
        "vLLM: This model's maximum context length is; OpenAI's error code",
    ),
    (
        RefusalReason.CONTEXT_LENGTH,
        r"\b(?:prompt|input)(?: tokens?)?(?: length)?(?: is)? too long\b",
        "Fireworks: The prompt is too long (fw-ai/cookbook issue 134); Moonshot: Input token length too long",
    ),
    (
        RefusalReason.CONTEXT_LENGTH,
        (
            r"\bexceed\w{0,3} (?:the )?model(?:'s)? (?:token|context) (?:limit|length|window)\b"
            r"|\blonger than the (?:model's )?(?:maximum )?(?:context|model) length\b"
        ),
        "Moonshot: exceeded model token limit; SGLang: is longer than the model's context length",
    ),
    (
        RefusalReason.HISTORY,
        r"\breasoning_content\b.{0,60}\b(?:missing|required|must be passed)\b",
        "Moonshot: reasoning_content is missing in assistant … message (anomalyco/opencode issue 29690)",
    ),
    (
        RefusalReason.HISTORY,
        (
            r"\btext content is empty\b|\btool_call_ids?\b.{0,60}\bnot found\b"
            r"|\bmessages? at (?:position|index) \d{1,6}\b.{0,80}\bmust not be empty\b"
        ),
        "Moonshot's errors of 400",
    ),
    (
        RefusalReason.HISTORY,
        r"\bmust be followed by tool messages\b|\bmust be a response to a prece",
        "OpenAI: An assistant message with 'tool_calls' must be followed by tool messages",
    ),
    (
        RefusalReason.TOOL_NAME,
        (
            r"\b(?:function|tool) name\b.{0,40}\binvalid\b|\binvalid (?:function|tool) name\b"
            r"|\bfunction\.name\b.{0,60}\b(?:pattern|invalid|too long)\b"
        ),
        "Moonshot: function name is invalid (MoonshotAI/kimi-cli issue 2531); OpenAI: does not match pattern",
    ),
    (
        RefusalReason.SCHEMA_RULE,
        r"\bflavou?red json ?schema\b|\binvalid schema for\b|\binvalid_function_parameters\b",
        "Moonshot (MoonshotAI/kimi-cli issue 2061); OpenAI: Invalid schema for function",
    ),
    (
        RefusalReason.SCHEMA_COMPILER,
        r"\b(?:xgrammar|llguidance|lm-?format-?enforcer|outlines_core|grammars?)\b",
        "vLLM: contains features not supported by xgrammar (issue 26421), Grammar error; SGLang's grammars",
    ),
    (
        RefusalReason.SCHEMA_COMPILER,
        r"\bcompil\w{1,6}\b.{0,60}\bschema|\bschema\b.{0,60}\bcompil",
        "vLLM: compile_json_schema in the traceback of pull request 47312",
    ),
    (
        RefusalReason.SCHEMA_RULE,
        (
            r"\b(?:json|tool|parameters?|function|invalid|unsupported)[ _-]?schemas?\b"
            r"|\bschemas?\b.{0,40}\b(?:invalid|(?:not|un)[ -]?supported|not valid)\b"
        ),
        "gateways in their own words",
    ),
    (
        RefusalReason.MODEL,
        (
            r"\bmodel_not_found\b|\bnot found the model\b|\binvalid model name\b"
            r"|\bmodel\b.{0,120}\b(?:does not exist|not exist|is not available|not found)\b"
        ),
        "OpenAI's code; Moonshot: Not found the model; LiteLLM: Invalid model name; vLLM: does not exist",
    ),
    (
        RefusalReason.CONTENT,
        (
            r"\bcontent_(?:policy_violation|filter)\b|\bfiltered due to the prompt\b"
            r"|\bconsidered high risk\b|\binput was flagged\b|\bdata_inspection_failed\b"
        ),
        "OpenAI's and Azure's codes; Moonshot: considered high risk; OpenRouter's 403; DashScope's code",
    ),
    (
        RefusalReason.SIZE,
        r"\b(?:request entity|payload|content|request body|request) too large\b",
        "nginx, express and RFC 9110",
    ),
    (
        RefusalReason.PARAMETER,
        (
            r"\bonly [\d.]{1,8} is allowed\b|\bunsupported[ _](?:parameter|value)\b"
            r"|\binvalid (?:temperature|top_p|max_tokens|n)\b"
        ),
        "Moonshot: invalid temperature: only 1 is allowed for this model; OpenAI's codes",
    ),
    (
        RefusalReason.PARAMETER,
        (
            r"\bunrecognized request argument|\bunknown parameter\b|\bextra_forbidden\b"
            r"|\bextra inputs are not permitted\b"
        ),
        "OpenAI: Unrecognized request argument; pydantic in vLLM and SGLang",
    ),
)
"""Reason, pattern and the source of what it was made for; the surer ones first."""

_COMPILED = tuple((reason, re.compile(pattern, re.IGNORECASE)) for reason, pattern, _ in _PATTERNS)


def sort_refusal(words: str) -> RefusalReason | None:
    """Say what a refusal is about, by the first pattern of the table that fits; None where none does."""
    beginning = words[:_READ]
    return next((reason for reason, pattern in _COMPILED if pattern.search(beginning)), None)
