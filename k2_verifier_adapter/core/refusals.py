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
        RefusalReason.CREDIT,
        r"\bpayment required\b|\bcredit limit exceeded\b|\bnot enough (?:balance|credits?)\b|\bArrearage\b",
        "RFC 9110's words of 402; Together; DashScope's error code",
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
        RefusalReason.QUOTA,
        r"\ballocated quota exceeded\b|\busage limit for this\b|\bexceeded your monthly included credits\b",
        "DashScope; Kimi Code's 403 (Kilo-Org/kilocode issue 11403); Hugging Face's 402",
    ),
    (
        RefusalReason.QUOTA,
        r"\b(?:tokens|requests) per day\b|\bdaily (?:request|token|usage) (?:limit|quota)\b|\blimit_rpd\b",
        "Groq: tokens per day (TPD); OpenRouter's limit_rpd of free models",
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
        RefusalReason.CONTEXT_LENGTH,
        (
            r"\binput(?: tokens?)?(?: length)? (?:\d{1,12} )?exceeds? the (?:maximum |limit)"
            r"|\brange of input length should be\b|\breduce the length of the (?:messages|prompt|input)"
            r"|\binputs?[` ]{1,2}tokens \+ .{0,20}max_new_tokens"
        ),
        "SGLang; DashScope; OpenAI's advice; text-generation-inference",
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
        RefusalReason.HISTORY,
        (
            r"\btool_call_ids?\b.{0,40}\b(?:duplicate\w{0,2}|missing)\b"
            r"|\b(?:duplicate|missing)\b.{0,40}\btool_call_ids?\b"
            r"|\b(?:conversation )?roles must alternate\b"
            r"|\b(?:unexpected|invalid|unknown|unsupported) (?:message )?role\b"
        ),
        "OpenAI-compatible gateways; chat templates' raise_exception; Mistral",
    ),
    (
        RefusalReason.HISTORY,
        (
            r"\blast message must be\b"
            r"|\btool_calls?\b.{0,40}\barguments\b.{0,60}\b(?:expecting value|invalid character|not valid)"
            r"|\b(?:expecting value|invalid character)\b.{0,80}\btool_calls?\b"
        ),
        "Mistral and LiteLLM; json.loads of a history's arguments in vLLM",
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
        RefusalReason.TOOL_NAME,
        (
            r"\b(?:function|tool) names?\b.{0,80}\b(?:unique|duplicated?)\b"
            r"|\bduplicated? (?:function|tool) names?\b"
            r"|\btools[.\[]\d{1,4}\b.{0,30}\bname: string should match pattern"
        ),
        "Anthropic: tools: Tool names must be unique, and its pattern",
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
        r"\bjson_schema_converter\b|\bguided[ _-]decoding\b|\bstructural_tag\b|\bbuild(?:ing)? FSM\b",
        "xgrammar's source file in its messages; vLLM's and SGLang's guided decoding; outlines",
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
        RefusalReason.SCHEMA_RULE,
        (
            r"\bfunction\.parameters\b.{0,80}\b(?:not (?:supported|valid|permitted|allowed)|invalid)\b"
            r"|\bschema must (?:have|be)\b"
            r"|['\"`](?:oneOf|anyOf|allOf|\$ref|\$defs|patternProperties)['\"`]?"
            r" is not (?:permitted|supported|allowed)"
        ),
        "OpenAI's strict schemas; Gemini's and Moonshot's restrictions",
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
        RefusalReason.PARAMETER,
        (
            r"\bsupport (?:tool use|the provided 'tool_choice')"
            r"|\btools?(?:_choice| choice)?\b.{0,40}\b(?:is|are) not supported\b"
            r"|\btool[ _]choice\b.{0,30}\b(?:requires|incompatible)\b"
        ),
        "OpenRouter's 404; vLLM: tool choice requires --enable-auto-tool-choice",
    ),
    (
        RefusalReason.MODEL,
        r"\bnot a valid model\b|\bunknown model\b|\bno endpoints found for\b|\bno deployments available\b",
        "OpenRouter; LiteLLM's router",
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
        RefusalReason.CONTENT,
        (
            r"\binappropriate content\b|\bcontent exists risk\b|\bcontent (?:moderation|management policy)\b"
            r"|\bflagged as\b.{0,40}\bviolat|敏感(?:信息|内容)"
        ),
        "DashScope's DataInspectionFailed; DeepSeek; Azure; Zhipu's 1301",
    ),
    (
        RefusalReason.SIZE,
        r"\b(?:request entity|payload|content|request body|request) too large\b",
        "nginx, express and RFC 9110",
    ),
    (
        RefusalReason.SIZE,
        r"\bmax bytes per request body\b|\brequest body too large\b|\btoo many tools\b|\barray too long\b",
        "Groq and Fastify; OpenAI: Invalid 'tools': array too long",
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
    (
        RefusalReason.PARAMETER,
        (
            r"\b(?:n|top_p|top_k|temperature|max_tokens|max_completion_tokens|stream_options)\b['\"`]?"
            r" (?:must be|is too large|is only allowed|is not supported)\b"
            r"|\bunsupportedparamserror\b|\badditional properties are not allowed\b"
        ),
        "vLLM's and SGLang's validation; LiteLLM's exception; jsonschema's words in gateways",
    ),
)
"""Reason, pattern and the source of what it was made for; the surer ones first."""

_COMPILED = tuple((reason, re.compile(pattern, re.IGNORECASE)) for reason, pattern, _ in _PATTERNS)


def sort_refusal(words: str) -> RefusalReason | None:
    """Say what a refusal is about, by the first pattern of the table that fits; None where none does."""
    beginning = words[:_READ]
    return next((reason for reason, pattern in _COMPILED if pattern.search(beginning)), None)
