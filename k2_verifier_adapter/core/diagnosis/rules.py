"""All rules of the diagnosis, as data: when a finding is made, what it says and what it advises.

Sources of all that is advised: upstream's suggestions to vendors (README of MoonshotAI/K2-Vendor-Verifier),
vLLM's documentation of tool calling and its article "Chasing 100% Accuracy" of 2025-10-28, SGLang's
documentation of its parsers and environment variables, and the pull requests that are given by number.
"""

from __future__ import annotations

from k2_verifier_adapter.core.diagnosis.findings import Base, Condition, Rule
from k2_verifier_adapter.core.diagnosis.measures import Measure
from k2_verifier_adapter.core.failure_classes import FailureClass as C

VERSIONS = (
    "Use at least the versions that upstream recommends: vLLM v0.11.0 or SGLang v0.5.3rc0 for K2-0905, "
    "vLLM v0.11.1rc6 or SGLang v0.5.5.post2 for K2-Thinking."
)
TOOL_PARSER = (
    "vLLM: --enable-auto-tool-choice --tool-call-parser kimi_k2. SGLang: --tool-call-parser kimi_k2."
)
REASONING_PARSER = "vLLM and SGLang, K2-Thinking: --reasoning-parser kimi_k2."
GUIDED_VLLM = (
    'vLLM: under tool_choice "auto" a schema is enforced only for tools with "strict": true; '
    "--tool-strict-level parameter (documented for v0.32.0) enforces it for every tool."
)
GUIDED_SGLANG = "SGLang: SGLANG_TOOL_STRICT_LEVEL=2 treats every tool as strict (pull request 12423)."
IDS = (
    "Rename the tool call ids of the history to functions.NAME:IDX before the model sees them, as the "
    "official API does and upstream advises."
)
UNSTREAMED = 'Ask the same cases with "stream": false; clean there, it is the streaming path.'

RULES: tuple[Rule, ...] = (
    # leaks, and answers that say nothing
    Rule(
        "tool_parser_off",
        (C.MARKUP_IN_CONTENT,),
        Base.RESPONSES,
        "The tool parser is probably off, or does not know K2's markup.",
        "{count} of {base} carry K2 markup in their content ({valid_in_content} of them with a valid call), "
        "and {parsed_share} of all calls were parsed.",
        (TOOL_PARSER, "Behind a router: check that every backend is started so.", VERSIONS),
        conditions=(Condition(Measure.PARSED_SHARE, below=0.1),),
    ),
    Rule(
        "tool_parser_leaks",
        (C.MARKUP_IN_CONTENT,),
        Base.RESPONSES,
        "The tool parser probably lets some calls through as text, as parsers have done when they stream.",
        "{count} of {base} carry K2 markup in their content ({valid_in_content} of them with a valid call), "
        "while {parsed_share} of all calls were parsed.",
        (
            UNSTREAMED,
            "vLLM: update; its kimi_k2 parser leaked when it streamed until pull requests 28543 and 31207.",
            "SGLang: update; its kimi_k2 parser missed arguments of several lines until pull request 19120.",
            IDS,
        ),
        conditions=(Condition(Measure.PARSED_SHARE, at_least=0.1),),
    ),
    Rule(
        "reasoning_parser_swallows_calls",
        (C.MARKUP_IN_REASONING,),
        Base.RESPONSES,
        "The reasoning parser probably swallows calls that the model begins without closing its reasoning.",
        "{count} of {base} carry K2 markup in their reasoning, {valid_in_reasoning} of them a valid call.",
        (
            (
                "The parser has to end the reasoning at <|tool_calls_section_begin|> as well as at </think>. "
                "vLLM: its own parser for K2 does (v0.22.1; v0.15.0 did not). SGLang: since pull request "
                "19696."
            ),
            REASONING_PARSER,
        ),
    ),
    Rule(
        "another_model",
        (C.SPECIAL_TOKEN_LEAK,),
        Base.RESPONSES,
        "Another model than K2 probably answers some requests, or its template is in use.",
        "{count} of {base} show special tokens, {foreign} of them those of another model family.",
        ("Check which weights, tokenizer and chat template each backend behind this name serves.",),
        conditions=(Condition(Measure.FOREIGN, at_least=0.5),),
        beside_others=True,
    ),
    Rule(
        "special_tokens_in_text",
        (C.SPECIAL_TOKEN_LEAK,),
        Base.RESPONSES,
        "Stop tokens or the chat template are probably wrong, or tokens are not skipped in the text.",
        "{count} of {base} show special tokens in their text.",
        (
            (
                "Generation has to stop at <|im_end|>; take the model's own generation_config.json and chat "
                "template."
            ),
            "skip_special_tokens has to be on where no parser needs the tokens.",
            f"</think> in the content: {REASONING_PARSER}",
        ),
        conditions=(Condition(Measure.FOREIGN, below=0.5),),
        beside_others=True,
    ),
    Rule(
        "reasoning_parser_eats_answers",
        (C.REASONING_ONLY,),
        Base.RESPONSES,
        "The reasoning parser probably takes whole answers for reasoning.",
        "{count} of {base} hold reasoning and nothing else, with a regular end.",
        (
            REASONING_PARSER,
            "K2-0905 does not reason: serve it without a reasoning parser.",
            "A prompt that already opens <think>, or a missing </think>, must not hide the answer.",
        ),
    ),
    Rule(
        "empty_answers",
        (C.EMPTY_RESPONSE,),
        Base.RESPONSES,
        "A parser probably drops whole answers, or generation stops at its first token.",
        "{count} of {base} hold nothing at all.",
        (
            "Look at the raw text of such a case without parsers: is it empty, or is it dropped?",
            "Check the stop tokens, and the end of the prompt that the chat template writes.",
            VERSIONS,
        ),
    ),
    # how answers end
    Rule(
        "parser_drops_calls",
        (C.FINISH_TOOL_CALLS_WITHOUT_CALLS,),
        Base.RESPONSES,
        "The tool parser probably recognises calls and then drops them.",
        "{count} of {base} say tool_calls and carry no call.",
        (
            "Look at the raw text of such a case: an id that is not functions.NAME:IDX is a usual reason.",
            IDS,
            VERSIONS,
        ),
    ),
    Rule(
        "finish_reason_before_parsing",
        (C.CALLS_WITHOUT_FINISH_TOOL_CALLS,),
        Base.RESPONSES,
        "The server probably sets finish_reason before it parses the calls.",
        "{count} of {base} carry calls under another finish_reason than tool_calls ({under_null} under "
        "null).",
        (
            'With calls in the message, finish_reason has to be "tool_calls", streamed or not.',
            "Check gateways that map finish reasons.",
            VERSIONS,
        ),
    ),
    Rule(
        "finish_reason_not_of_the_api",
        (C.FINISH_REASON_MISSING, C.FINISH_REASON_UNKNOWN),
        Base.RESPONSES,
        "The server, or a gateway before it, probably passes on an engine's own end of generation.",
        "{count} of {base} have no finish_reason, or one that the API does not know.",
        ("Map every end to stop, tool_calls, length or content_filter.",),
    ),
    Rule(
        "token_limit_too_low",
        (C.TRUNCATED_BY_LENGTH,),
        Base.RESPONSES,
        "The token limit is probably below what the model needs.",
        "{count} of {base} end at the token limit; of {failures} failing responses and requests "
        "{of_failures_cut} do.",
        (
            "Allow the tokens that the official run allowed: 64,000 for K2-Thinking, 16,000 for K2-0905.",
            (
                "Check the limits of the server itself (vLLM: --max-model-len, SGLang: --context-length) and "
                "of the gateway."
            ),
        ),
        # Of the official answers themselves, 1 in 100 ends so, and not always for the same cases.
        least_share=0.02,
    ),
    Rule(
        "content_filter",
        (C.CONTENT_FILTERED,),
        Base.RESPONSES,
        "A filter before or behind the model probably stops answers that the official API gives.",
        "{count} of {base} end with content_filter.",
        ("Check the moderation of the gateway and of the platform.",),
    ),
    # the decision to call
    Rule(
        "chat_template_misses_calls",
        (C.MISSED_CALL,),
        Base.OFFICIAL_CALLS,
        "The chat template is probably rendered wrongly, so that the model does not see its turn to call.",
        "{count} of {base} are missed without any trace of a call ({share}); of the calls that are made, "
        "{valid_share} are valid.",
        (
            "Use a model commit with the mended chat template: 94a4053e for K2-0905, 0102674b for K2.",
            "The prompt has to end with <|im_assistant|>assistant<|im_middle|> (add_generation_prompt).",
            "An empty content of the history must not be rendered as a list.",
            VERSIONS,
        ),
        minimum=5,
        least_share=0.1,
        conditions=(
            Condition(Measure.MISSED_OF_DIFFERING, at_least=0.8),
            Condition(Measure.MISSED_BEYOND_NOISE, at_least=0.05),
        ),
    ),
    Rule(
        "calls_too_often",
        (C.EXTRA_CALL,),
        Base.CALLING,
        "The model probably calls too readily: a wrong template, wrong sampling, or tool_choice is forced.",
        "{count} of {base} call where the official API does not ({share}); {missed} official calls are "
        "missed.",
        (
            'Check that nothing sets tool_choice to "required".',
            "Temperature as in the official run: 1.0 for K2-Thinking, 0.6 for K2-0905.",
            "Compare the rendered prompt with that of the model's own chat template.",
        ),
        minimum=5,
        least_share=0.1,
        conditions=(
            Condition(Measure.MISSED_OF_DIFFERING, below=0.2),
            Condition(Measure.EXTRA_BEYOND_NOISE, at_least=0.05),
        ),
    ),
    Rule(
        "decisions_differ_both_ways",
        (C.MISSED_CALL, C.EXTRA_CALL),
        Base.RESPONSES,
        "The decision to call probably suffers from sampling, quantization or another model version.",
        "{differing} of {base} decide differently without any other failure: {missed} calls missed, "
        "{extra} too many; {noise}.",
        (
            "Temperature as in the official run: 1.0 for K2-Thinking, 0.6 for K2-0905; no top_k or penalty.",
            "Compare with weights in their original precision, and with the model's latest commit.",
            "Ask with --repeats to see how often the vendor differs from itself.",
        ),
        minimum=5,
        least_share=0.02,
        conditions=(
            Condition(Measure.MISSED_OF_DIFFERING, at_least=0.2, below=0.8),
            Condition(Measure.DIFFERING_BEYOND_NOISE, at_least=0.03),
            Condition(Measure.SHORTFALL, at_least=0.0),
        ),
    ),
    # arguments
    Rule(
        "no_guided_decoding",
        (
            C.MISSING_REQUIRED,
            C.UNEXPECTED_PROPERTY,
            C.WRONG_TYPE,
            C.ENUM_VIOLATION,
            C.OTHER_SCHEMA_VIOLATION,
            C.NOT_AN_OBJECT,
        ),
        Base.CALLING,
        "Arguments are probably generated without guided decoding.",
        "{count} of {base} break the schema of {tools}; schema accuracy is {valid_share}.",
        (
            "Upstream advises guided encoding; the official API never breaks a schema.",
            GUIDED_VLLM,
            GUIDED_SGLANG,
        ),
    ),
    Rule(
        "arguments_not_json",
        (C.TRAILING_TEXT, C.SINGLE_QUOTED_JSON, C.OTHER_INVALID_JSON),
        Base.CALLING,
        "What the model writes as arguments is probably passed on unchecked, or written as Python's repr.",
        "{count} of {base} have arguments that are not JSON; a repair could read {repairable} of them.",
        (
            "Single quotes: the server writes a decoded object with str() where it needs json.dumps().",
            ("Text behind the object: the tool parser takes more than what stands before <|tool_call_end|>."),
            GUIDED_VLLM,
            GUIDED_SGLANG,
        ),
    ),
    Rule(
        "arguments_cut_short",
        (C.TRUNCATED_JSON,),
        Base.CALLING,
        "Arguments probably lose their end when a stream is put together, or generation stops inside them.",
        "{count} of {base} have arguments that break off.",
        (
            UNSTREAMED,
            "The last delta of the arguments has to be sent before the finish_reason.",
            "A stop sequence, or a limit of a proxy, may end the answer inside a call.",
        ),
    ),
    Rule(
        "calls_glued_together",
        (C.STREAM_INDEX_MISSING, C.CONCATENATED_JSON),
        Base.CALLING,
        "Several calls are probably streamed as one: without an index, or under the same index.",
        "{count} of {base} have the arguments of several calls in one, or deltas without index.",
        (
            "Every tool call delta needs the index of its call: 0 for the first, 1 for the second.",
            UNSTREAMED,
        ),
    ),
    Rule(
        "empty_object_dropped",
        (C.EMPTY_ARGUMENTS,),
        Base.CALLING,
        "The server probably drops an empty object {} when it writes arguments.",
        "{count} of {base} have empty arguments; {{}} would be valid for {empty_object_fits} of them.",
        (
            'A call without parameters has to carry "arguments": "{}".',
            (
                "Known of parsers that test decoded arguments for truth when they stream (vLLM issue 28806, "
                "the hermes parser)."
            ),
        ),
    ),
    # names and ids
    Rule(
        "names_from_history",
        (C.UNDECLARED_TOOL,),
        Base.CALLING,
        "The model probably copies tool names from the history, and nothing restricts them.",
        "{count} of {base} call a tool that the request does not declare; {in_history} of these names stand "
        "in the history.",
        (GUIDED_VLLM, GUIDED_SGLANG, IDS),
        conditions=(Condition(Measure.IN_HISTORY, at_least=0.5),),
    ),
    Rule(
        "names_made_up",
        (C.UNDECLARED_TOOL,),
        Base.CALLING,
        "Nothing probably restricts tool names, or the tools do not reach the model.",
        "{count} of {base} call a tool that the request does not declare.",
        (
            GUIDED_VLLM,
            GUIDED_SGLANG,
            "Check that the chat template writes the request's tools into the prompt.",
        ),
        conditions=(Condition(Measure.IN_HISTORY, below=0.5),),
    ),
    Rule(
        "names_not_cut_from_ids",
        (C.TOOL_NAME_CASE_OR_PREFIX,),
        Base.CALLING,
        "The tool parser probably cuts the name wrongly out of the id, or something rewrites names.",
        "{count} of {base} call a declared tool under another spelling.",
        (
            (
                "Of functions.NAME:IDX the name is what stands between the prefix and the last colon (vLLM: "
                "mended by pull request 27565)."
            ),
            "Check gateways that change the case of names or add a prefix.",
        ),
    ),
    Rule(
        "ids_not_normalised",
        (C.NONSTANDARD_TOOL_CALL_ID,),
        Base.CALLING,
        "The server probably makes up its own tool call ids in place of K2's.",
        "{count} of {base} have ids that are not functions.NAME:IDX.",
        (
            (
                "Keep the id that the model writes; in the history of the next turn another one misleads it, "
                "and the parser then loses calls."
            ),
            IDS,
            "vLLM: update; native ids are kept since pull request 32768.",
        ),
        conditions=(Condition(Measure.WITH_OWN_IDS, at_least=0.5),),
        beside_others=True,
    ),
    Rule(
        "ids_repeated",
        (C.DUPLICATE_TOOL_CALL_ID,),
        Base.CALLING,
        "The server probably does not count calls when it numbers their ids, or sends a call twice.",
        "{count} of {base} have two calls with the same id.",
        ("IDX counts all calls of the conversation, from 0.", UNSTREAMED),
        beside_others=True,
    ),
    # streams
    Rule(
        "stream_without_ids",
        (C.STREAM_ID_MISSING,),
        Base.CALLING,
        "The server probably leaves the id out of its tool call deltas.",
        "{count} of {base} have calls whose id never arrives.",
        ("The first delta of a call carries id, type and name.",),
        beside_others=True,
    ),
    Rule(
        "stream_repeats_names",
        (C.STREAM_NAME_REPEATED,),
        Base.CALLING,
        "The server probably repeats the name in every delta; clients that join names then call nothing.",
        "{count} of {base} have calls whose name arrives more than once.",
        ("Only the first delta of a call carries its name.",),
        beside_others=True,
    ),
    Rule(
        "stream_not_served",
        (C.STREAM_IGNORED,),
        Base.RESPONSES,
        "The endpoint probably ignores that a stream is asked for, or a gateway in front of it collects it.",
        "{count} of {base} are one whole completion in answer to a streamed request.",
        (
            "Clients that stream, upstream's own script among them, read such an answer as an empty one.",
            "Serve event streams, and switch response buffering off in the gateway.",
        ),
        beside_others=True,
    ),
    # requests that fail, and routers
    Rule(
        "schema_compiler_refuses",
        (C.HTTP_4XX,),
        Base.REQUESTS,
        "The server probably refuses some tool schemas or histories: a grammar compiler or a template fails.",
        "{count} of {base} are refused ({statuses}).",
        (
            (
                "Read the error bodies: vLLM's grammar backends have refused keywords such as minItems, "
                "propertyNames and unknown formats."
            ),
            "The official API takes every one of these requests: fall back to unguided decoding instead.",
        ),
        conditions=(Condition(Measure.BAD_REQUESTS, at_least=0.5),),
    ),
    Rule(
        "requests_not_accepted",
        (C.HTTP_4XX,),
        Base.REQUESTS,
        "The endpoint probably does not accept the key, the model's name, the size or the rate of requests.",
        "{count} of {base} are refused ({statuses}).",
        (
            (
                "401 and 403: the key. 402: the balance. 404: URL or model name. 413: the size limit of a "
                "gateway."
            ),
        ),
        conditions=(Condition(Measure.BAD_REQUESTS, below=0.5),),
    ),
    Rule(
        "rate_limit",
        (C.RATE_LIMITED,),
        Base.REQUESTS,
        "The rate limit of the key or of the endpoint is probably below this run's rate.",
        "{count} of {base} fail with 429 in every attempt.",
        ("Ask with a lower concurrency (--eval-batch-size), or raise the limit.",),
    ),
    Rule(
        "server_fails",
        (C.HTTP_5XX, C.STREAM_ERROR_EVENT),
        Base.REQUESTS,
        "The server is probably overloaded, or fails on certain requests.",
        "{count} of {base} fail with an error of the server ({statuses}).",
        (
            "Do the same cases fail every time? Then look for what they share: schema, length, history.",
            "Otherwise capacity: ask with a lower concurrency.",
        ),
    ),
    Rule(
        "flaky_network",
        (C.CONNECTION_FAILED, C.CONNECTION_RESET, C.STREAM_CUT, C.TIMED_OUT),
        Base.REQUESTS,
        "The network, or a gateway with short time limits, probably breaks connections.",
        "{count} of {base} break off or time out in every attempt.",
        (
            "Idle and read time limits of load balancers have to outlast reasoning without output.",
            "Buffering proxies must let event streams through.",
        ),
    ),
    Rule(
        "not_an_api_answer",
        (C.NOT_A_COMPLETION, C.RESPONSE_TOO_LARGE),
        Base.REQUESTS,
        "Something before the model probably answers in its place.",
        "{count} of {base} get status 200 with what is no completion, or one without end.",
        ("Look at such an answer: an HTML page or an error object comes from a gateway or a wrong URL.",),
    ),
    Rule(
        "needs_retries",
        (),
        Base.REQUESTS,
        "The endpoint or the way to it is probably unstable; retries hide it from the metrics.",
        "{count} of {base} were answered only after a retry.",
        ("Look at the endpoint's log for 429, 5xx and broken connections during the run.",),
        least_share=0.01,
        counted=Measure.RETRIED,
    ),
    Rule(
        "router_falls_back",
        (),
        Base.RESPONSES,
        "A router probably falls back to another model or provider under the same name.",
        "{count} of {base} name another model or provider than most.",
        (
            "Pin the provider and forbid fallbacks (OpenRouter: provider.only, provider.allow_fallbacks).",
            "Verify each backend by itself.",
        ),
        minimum=1,
        least_share=0.0,
        counted=Measure.OTHERS_SERVED,
    ),
    # rows that cannot be judged by
    Rule(
        "rows_with_unusable_schemas",
        (C.BROKEN_TOOL_SCHEMA, C.TOOL_WITHOUT_SCHEMA, C.SCHEMA_TIMEOUT),
        Base.CALLING,
        "These calls fail because of the rows' tool schemas, and probably not because of the vendor.",
        "{count} of {base} call a tool whose schema is missing, broken or too slow to check.",
        ("Compare with the official answer to the same rows before holding this against the vendor.",),
    ),
)
"""All rules; of findings that explain as much, the earlier rule's comes first."""
