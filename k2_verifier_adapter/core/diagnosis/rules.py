"""All rules of the diagnosis, as data: when a finding is made, what it says and advises, what refutes it.

What depends on a model or on a version of an engine stands in `data/advice.json`, with its source and date.
The rest rests on upstream's suggestions to vendors (README of MoonshotAI/K2-Vendor-Verifier), on the
documentation of vLLM, SGLang and the OpenAI API, and on the issues and pull requests given by number.
"""

from __future__ import annotations

from k2_verifier_adapter.core.diagnosis.advice import Advice
from k2_verifier_adapter.core.diagnosis.findings import Base, Condition, Rule
from k2_verifier_adapter.core.diagnosis.measures import Measure
from k2_verifier_adapter.core.failure_classes import FailureClass as C
from k2_verifier_adapter.core.failure_classes import Variant
from k2_verifier_adapter.core.refusals import RefusalReason as R

VERSIONS = Advice("versions")
TOOL_PARSER = Advice("tool_parser")
REASONING_PARSER = Advice("reasoning_parser")
GUIDED = Advice("guided_decoding")
IDS = Advice("history_ids")
SAMPLING = Advice("sampling")
UNSTREAMED = 'Ask the same cases with "stream": false; clean there, it is the streaming path.'

_SAID = (C.HTTP_4XX, C.HTTP_5XX, C.RATE_LIMITED, C.STREAM_ERROR_EVENT, C.NOT_A_COMPLETION)
"""How requests fail whose server says why."""

_LOST = frozenset({Variant.CALL_DROPPED})
_KEPT = frozenset({None})

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
        refuted_by=(
            "Refuted if the markers stand in the prompts themselves, or the raw text of such a case, "
            "without a parser, holds none."
        ),
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
        refuted_by=(
            'Refuted if the same cases leak as often with "stream": false and with the newest parser: '
            "then the model writes calls that no parser expects."
        ),
    ),
    Rule(
        "reasoning_parser_swallows_calls",
        (C.MARKUP_IN_REASONING,),
        Base.RESPONSES,
        "The reasoning parser probably swallows calls that the model begins without closing its reasoning.",
        "{count} of {base} carry K2 markup in their reasoning, {valid_in_reasoning} of them a valid call.",
        (
            (
                "The parser has to end the reasoning at <|tool_calls_section_begin|> as well as at "
                "</think>. vLLM: its own parser for K2 does (v0.22.1; v0.15.0 did not). SGLang: since pull "
                "request 19696."
            ),
            REASONING_PARSER,
        ),
        refuted_by=(
            "Refuted if the raw text closes its reasoning before the call, or the model only thinks "
            "about the call and makes it later."
        ),
    ),
    Rule(
        "another_model",
        (C.SPECIAL_TOKEN_LEAK,),
        Base.RESPONSES,
        "Another model than K2 probably answers some requests, or its template is in use.",
        "{count} of {base} show special tokens of another model family.",
        ("Check which weights, tokenizer and chat template each backend behind this name serves.",),
        variants={C.SPECIAL_TOKEN_LEAK: frozenset({Variant.FOREIGN})},
        beside_others=True,
        refuted_by=(
            "Refuted if the prompts ask for these tokens, or the tokenizer of the served weights is "
            "this model's own."
        ),
    ),
    Rule(
        "special_tokens_in_text",
        (C.SPECIAL_TOKEN_LEAK,),
        Base.RESPONSES,
        "Stop tokens or the chat template are probably wrong, or tokens are not skipped in the text.",
        "{count} of {base} show special tokens in their text.",
        (
            (
                "Generation has to stop at <|im_end|>; take the model's own generation_config.json and "
                "chat template."
            ),
            "skip_special_tokens has to be on where no parser needs the tokens.",
        ),
        variants={C.SPECIAL_TOKEN_LEAK: _KEPT},
        beside_others=True,
        refuted_by=(
            "Refuted if the prompts ask for these tokens, or the raw text without parsers does not hold them."
        ),
    ),
    Rule(
        "think_tags_in_text",
        (C.SPECIAL_TOKEN_LEAK,),
        Base.RESPONSES,
        (
            "The reasoning parser is probably off, or leaves a think tag behind where a call ended the "
            "reasoning."
        ),
        "{count} of {base} show think tags in their text.",
        (REASONING_PARSER, "The prompt may open <think> already: the answer then holds </think> alone."),
        variants={C.SPECIAL_TOKEN_LEAK: frozenset({Variant.THINK_TAG})},
        beside_others=True,
        refuted_by="Refuted if the prompts ask for these tags, or the raw text holds a pair of them there.",
    ),
    Rule(
        "call_in_other_notation",
        (C.CALL_IN_CONTENT,),
        Base.RESPONSES,
        "A call stands in the content: the tool parser is probably off, or does not know this notation.",
        "{count} of {base} carry a call of a declared tool in their content, in JSON, in tags or in K3's "
        "elements, and none in tool_calls.",
        (
            TOOL_PARSER,
            "Markup of another model points to other weights, or to another chat template.",
            VERSIONS,
        ),
        refuted_by="Refuted if the prompts ask for the call to be written out.",
    ),
    Rule(
        "tool_parser_spoils_calls",
        (C.MARKUP_IN_ARGUMENTS, C.MARKUP_IN_TOOL_CALL_ID),
        Base.RESPONSES,
        (
            "The tool parser probably cuts calls in the wrong place: markup stands in an id, a name or "
            "arguments."
        ),
        "{count} of {base} carry tool call markup inside of a call; what stands behind it there, such as a "
        "second call, is lost.",
        (UNSTREAMED, VERSIONS, IDS),
        refuted_by="Refuted if the prompts ask for text with these markers, or the raw text has them in the "
        "same place: then the model writes them there.",
    ),
    Rule(
        "reasoning_parser_eats_answers",
        (C.REASONING_ONLY,),
        Base.RESPONSES,
        "The reasoning parser probably takes whole answers for reasoning.",
        (
            "{count} of {base} hold reasoning and nothing else, with a regular end, and no more tokens "
            "than that."
        ),
        (
            REASONING_PARSER,
            "A prompt that already opens <think>, or a missing </think>, must not hide the answer.",
        ),
        variants={C.REASONING_ONLY: _KEPT},
        refuted_by=(
            "Refuted if the raw text of such a case ends with its reasoning: then the model ends its "
            "turn there."
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
        variants={C.EMPTY_RESPONSE: _KEPT},
        refuted_by=(
            "Refuted if the raw text of such a case is empty as well, with no token generated: then the "
            "model ends its turn at once."
        ),
    ),
    # how answers end
    Rule(
        "parser_drops_calls",
        (
            C.FINISH_TOOL_CALLS_WITHOUT_CALLS,
            C.STREAM_EMPTY_TOOL_CALLS,
            C.REASONING_ONLY,
            C.EMPTY_RESPONSE,
            C.MISSED_CALL,
        ),
        Base.RESPONSES,
        "The tool parser probably recognises calls and then drops them.",
        "{count} of {base} carry no call where one was generated: they say tool_calls, stream empty calls, "
        "end behind their reasoning, or used more tokens than can be seen.",
        (
            "Look at the raw text of such a case: an id that is not functions.NAME:IDX is a usual reason.",
            IDS,
            VERSIONS,
        ),
        variants={C.REASONING_ONLY: _LOST, C.EMPTY_RESPONSE: _LOST, C.MISSED_CALL: _LOST},
        refuted_by="Refuted if the raw text of such a case, without a tool parser, holds no call.",
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
        refuted_by=(
            "Refuted if a request to the engine itself, past the gateway, has finish_reason tool_calls: "
            "then the gateway rewrites it."
        ),
    ),
    Rule(
        "finish_reason_not_of_the_api",
        (C.FINISH_REASON_MISSING, C.FINISH_REASON_UNKNOWN),
        Base.RESPONSES,
        "The server, or a gateway before it, probably passes on an engine's own end of generation.",
        "{count} of {base} have no finish_reason, or one that the API does not know.",
        ("Map every end to stop, tool_calls, length or content_filter.",),
        refuted_by="Refuted if the official API ends the same cases so.",
    ),
    Rule(
        "token_limit_too_low",
        (C.TRUNCATED_BY_LENGTH,),
        Base.RESPONSES,
        "The token limit is probably below what the model needs.",
        "{count} of {base} end at the token limit; of {failures} failing responses and requests "
        "{of_failures_cut} do.",
        (
            SAMPLING,
            (
                "Check the limits of the server itself (vLLM: --max-model-len, SGLang: --context-length) "
                "and of the gateway."
            ),
        ),
        # Of the official answers themselves, 1 in 100 ends so, and not always for the same cases.
        least_share=0.02,
        refuted_by="Refuted if a higher limit is used up as well: then the model does not come to an end.",
    ),
    Rule(
        "content_filter",
        (C.CONTENT_FILTERED,),
        Base.RESPONSES,
        "A filter before or behind the model probably stops answers that the official API gives.",
        "{count} of {base} end with content_filter.",
        ("Check the moderation of the gateway and of the platform.",),
        refuted_by="Refuted if the official API filters the same cases.",
    ),
    # the decision to call
    Rule(
        "chat_template_misses_calls",
        (C.MISSED_CALL,),
        Base.OFFICIAL_CALLS,
        "The chat template is probably rendered wrongly, so that the model does not see its turn to call.",
        "{count} of {base} are missed without any trace of a call ({share}): none in the content, in the "
        "reasoning, in another choice or in the tokens used; of the calls that are made, {valid_share} are "
        "valid.",
        (
            Advice("chat_template"),
            VERSIONS,
        ),
        minimum=5,
        least_share=0.1,
        variants={C.MISSED_CALL: _KEPT},
        conditions=(
            Condition(Measure.MISSED_OF_DIFFERING, at_least=0.8),
            Condition(Measure.MISSED_BEYOND_NOISE, at_least=0.05),
        ),
        refuted_by=(
            "Refuted if the rendered prompt equals the model's own template, or the official API misses "
            "as many in a second run."
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
            SAMPLING,
            "Compare the rendered prompt with that of the model's own chat template.",
        ),
        minimum=5,
        least_share=0.1,
        conditions=(
            Condition(Measure.MISSED_OF_DIFFERING, below=0.2),
            Condition(Measure.EXTRA_BEYOND_NOISE, at_least=0.05),
        ),
        refuted_by=(
            "Refuted if the official API calls as often in a second run, or the rendered prompt and the "
            "sampling are the model's own."
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
            SAMPLING,
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
        refuted_by="Refuted if a second official run differs from the first as often.",
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
            "Upstream advises guided encoding; the official runs that it published have no schema error.",
            GUIDED,
        ),
        refuted_by=(
            'Refuted if strict schemas are on and enforced (ask with "strict": true), or the official '
            "answers break the same schemas."
        ),
    ),
    Rule(
        "arguments_not_json",
        (C.TRAILING_TEXT, C.OTHER_INVALID_JSON),
        Base.CALLING,
        "What the model writes as arguments is probably passed on unchecked.",
        "{count} of {base} have arguments that are not JSON; a repair could read {repairable} of them.",
        (
            ("Text behind the object: the tool parser takes more than what stands before <|tool_call_end|>."),
            GUIDED,
        ),
        variants={C.OTHER_INVALID_JSON: _KEPT},
        refuted_by=(
            "Refuted if the raw text of such a case, between its markers, is JSON: then the parser spoils it."
        ),
    ),
    Rule(
        "arguments_single_quoted",
        (C.SINGLE_QUOTED_JSON,),
        Base.CALLING,
        "The server, or the model, probably writes arguments as Python's repr.",
        "{count} of {base} have arguments in single quotes; a repair could read {repairable} of all that are "
        "no JSON.",
        (
            "The server: it writes a decoded object with str() where it needs json.dumps().",
            "The model: look at the raw text; guided decoding keeps it to JSON.",
            GUIDED,
        ),
        refuted_by="Refuted if the raw text holds double quotes, and no code between writes it anew.",
    ),
    Rule(
        "arguments_sent_again",
        (C.OTHER_INVALID_JSON,),
        Base.CALLING,
        (
            "The streaming tool parser probably sends arguments once more, encoded, when a stream ends in "
            "a call."
        ),
        "{count} of {base} have arguments behind which the same arguments stand as an encoded string.",
        (UNSTREAMED, VERSIONS),
        variants={C.OTHER_INVALID_JSON: frozenset({Variant.SENT_AGAIN})},
        refuted_by='Refuted if the same cases show it with "stream": false.',
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
        refuted_by='Refuted if the same cases are cut as often with "stream": false.',
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
        refuted_by="Refuted if the raw stream gives every call an index of its own.",
    ),
    Rule(
        "empty_object_dropped",
        (C.EMPTY_ARGUMENTS,),
        Base.CALLING,
        "The server probably drops an empty object {} when it writes arguments.",
        "{count} of {base} have empty arguments where {{}} would be valid.",
        (
            'A call without parameters has to carry "arguments": "{}".',
            (
                "Known of parsers that test decoded arguments for truth when they stream (vLLM issue "
                "28806, the hermes parser)."
            ),
        ),
        variants={C.EMPTY_ARGUMENTS: frozenset({Variant.EMPTY_OBJECT_FITS})},
        refuted_by="Refuted if the raw text of such a case holds arguments, or the tool requires some.",
    ),
    Rule(
        "arguments_lost",
        (C.EMPTY_ARGUMENTS,),
        Base.CALLING,
        "Arguments probably get lost when a stream is put together, such as those of a second call.",
        "{count} of {base} have empty arguments where the tool requires some.",
        (UNSTREAMED, "The arguments of each call have to be sent before the next call begins.", VERSIONS),
        variants={C.EMPTY_ARGUMENTS: _KEPT},
        refuted_by=(
            "Refuted if the raw text of such a case has no arguments either: then the model writes none."
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
        (GUIDED, IDS),
        conditions=(Condition(Measure.IN_HISTORY, at_least=0.5),),
        refuted_by="Refuted if the names are declared in the request that reaches the server.",
    ),
    Rule(
        "names_made_up",
        (C.UNDECLARED_TOOL,),
        Base.CALLING,
        "Nothing probably restricts tool names, or the tools do not reach the model.",
        "{count} of {base} call a tool that the request does not declare.",
        (
            GUIDED,
            "Check that the chat template writes the request's tools into the prompt.",
        ),
        conditions=(Condition(Measure.IN_HISTORY, below=0.5),),
        refuted_by="Refuted if the rendered prompt holds the tools, and strict tool calling is on.",
    ),
    Rule(
        "names_not_cut_from_ids",
        (C.TOOL_NAME_CASE_OR_PREFIX,),
        Base.CALLING,
        "The tool parser probably cuts the name wrongly out of the id, or something rewrites names.",
        "{count} of {base} call a declared tool under another spelling.",
        (
            (
                "Of functions.NAME:IDX the name is what stands between the prefix and the last colon "
                "(vLLM: mended by pull request 27565)."
            ),
            "Check gateways that change the case of names or add a prefix.",
        ),
        refuted_by="Refuted if the raw text names the tool as the answer does: then the model misspells it.",
    ),
    Rule(
        "ids_not_normalised",
        (C.NONSTANDARD_TOOL_CALL_ID,),
        Base.CALLING,
        "The server probably makes up its own tool call ids in place of K2's.",
        "{count} of {base} have ids that are not functions.NAME:IDX.",
        (
            (
                "Keep the id that the model writes; in the history of the next turn another one misleads "
                "it, and the parser then loses calls."
            ),
            IDS,
            "vLLM: update; native ids are kept since pull request 32768.",
        ),
        beside_others=True,
        variants={C.NONSTANDARD_TOOL_CALL_ID: _KEPT},
        refuted_by=(
            "Refuted if the raw text holds the same ids: then the model writes them, as it does after "
            "foreign ids in the history."
        ),
    ),
    Rule(
        "ids_left_out",
        (C.NONSTANDARD_TOOL_CALL_ID,),
        Base.CALLING,
        "The server, or a gateway, probably leaves the ids of calls out.",
        "{count} of {base} have calls without an id.",
        ("Every call carries an id, by which its result refers to it.",),
        variants={C.NONSTANDARD_TOOL_CALL_ID: frozenset({Variant.ABSENT})},
        refuted_by="Refuted if the engine itself, past the gateway, gives the ids.",
        beside_others=True,
    ),
    Rule(
        "ids_not_as_written",
        (C.NONSTANDARD_TOOL_CALL_ID,),
        Base.CALLING,
        "The server probably keeps the ids that the model writes, and gives them out in another form.",
        "{count} of {base} have ids that tell a declared tool and a number, but not as functions.NAME:IDX.",
        (
            (
                "NAME:IDX is what the official API itself may return; as history of the next turn, K2's "
                "template needs functions.NAME:IDX."
            ),
            IDS,
        ),
        variants={C.NONSTANDARD_TOOL_CALL_ID: frozenset({Variant.NEARLY_STANDARD})},
        refuted_by="Refuted if the raw text holds the same ids: then the model writes them so.",
        beside_others=True,
    ),
    Rule(
        "ids_reused",
        (C.TOOL_CALL_ID_REUSED,),
        Base.CALLING,
        "The server probably counts calls anew in each answer, so that ids of the history come again.",
        "{count} of {base} have a call with the id of a call in the history.",
        ("IDX counts all calls of the conversation, from 0.", IDS),
        refuted_by="Refuted if the raw text holds the same ids: then the model counts wrongly.",
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
        refuted_by="Refuted if the raw text holds the same id twice: then the model writes it.",
    ),
    # generation
    Rule(
        "generation_loops",
        (C.DEGENERATE_TEXT,),
        Base.RESPONSES,
        "Generation probably runs into loops: broken weights or kernels, quantization, or wrong sampling.",
        "{count} of {base} repeat the same piece of text over and over, in content or reasoning.",
        (
            SAMPLING,
            (
                "A single character throughout points to numbers that are not finite (vLLM issue 42426): "
                "compare with another attention or quantization backend."
            ),
        ),
        refuted_by="Refuted if the official API answers the same cases in the same way.",
    ),
    Rule(
        "calls_repeated",
        (C.REPEATED_CALL,),
        Base.CALLING,
        "The model probably repeats calls: it loops, or does not see the result of its last call.",
        "{count} of {base} make the same call many times, or the last call of the history once more although "
        "its result is there.",
        (
            "Compare the rendered prompt: the tool's result has to follow the call, under the same id.",
            IDS,
            SAMPLING,
        ),
        refuted_by=(
            "Refuted if the official API repeats the calls in the same cases, or the results ask for it."
        ),
    ),
    # streams
    Rule(
        "stream_repeats_itself",
        (C.STREAM_CUMULATIVE,),
        Base.RESPONSES,
        "The server, or a gateway, probably sends cumulative deltas: each repeats everything so far.",
        "{count} of {base} are streams whose deltas begin with what the ones before them said.",
        (UNSTREAMED, "Every delta carries what is new, and nothing else."),
        refuted_by='Refuted if the same cases are as wrong with "stream": false.',
    ),
    Rule(
        "stream_carries_messages",
        (C.STREAM_MESSAGE_FOR_DELTA,),
        Base.RESPONSES,
        "A gateway probably makes a stream of whole completions: its chunks carry message for delta.",
        "{count} of {base} are streams with a message in the place of the delta, which clients do not read.",
        (UNSTREAMED, "Chunks carry choices[0].delta."),
        refuted_by="Refuted if the engine itself, past the gateway, sends the same chunks.",
    ),
    Rule(
        "calls_in_other_choices",
        (C.CALL_IN_OTHER_CHOICE,),
        Base.RESPONSES,
        "The server, or a gateway, probably gives several choices, and the call is not in the first.",
        "{count} of {base} carry a call in another choice than 0, and none in that.",
        ('Nothing asks for several choices: check that nothing adds "n", and how a gateway numbers them.',),
        refuted_by='Refuted if the parameters of this run ask for "n" above 1.',
    ),
    Rule(
        "stream_without_ids",
        (C.STREAM_ID_MISSING,),
        Base.CALLING,
        "The server probably leaves the id out of its tool call deltas.",
        "{count} of {base} have calls whose id never arrives.",
        ("The first delta of a call carries id, type and name.",),
        beside_others=True,
        refuted_by="Refuted if the raw stream holds the ids in a later delta.",
    ),
    Rule(
        "stream_repeats_names",
        (C.STREAM_NAME_REPEATED,),
        Base.CALLING,
        "The server probably repeats the name in every delta; clients that join names then call nothing.",
        "{count} of {base} have calls whose name arrives more than once.",
        ("Only the first delta of a call carries its name.",),
        beside_others=True,
        refuted_by="Refuted if the raw stream holds each name once: then a gateway repeats it.",
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
        refuted_by="Refuted if the engine itself, past the gateway, streams.",
    ),
    # requests that fail, and routers
    Rule(
        "context_too_short",
        _SAID,
        Base.REQUESTS,
        "The context length that the server allows is probably below what these requests need.",
        "{count} of {base} are refused for their length ({statuses}).",
        (
            (
                "Compare the server's limit (vLLM: --max-model-len, SGLang: --context-length) with the "
                "model's own, and prompt plus max_tokens with both."
            ),
        ),
        reasons=frozenset({R.CONTEXT_LENGTH}),
        refuted_by="Refuted if the same requests with a small max_tokens are taken, or shorter ones are "
        "refused in the same words.",
    ),
    Rule(
        "history_refused",
        _SAID,
        Base.REQUESTS,
        "The server probably demands something of the history that these rows do not hold.",
        "{count} of {base} are refused for their messages ({statuses}).",
        (
            (
                "The official API refuses such histories as well, of models that think: each assistant "
                "message with calls needs its reasoning_content, if only an empty one."
            ),
            "With thinking off, or on a model without it, the same rows are taken.",
            "`k2-verifier dataset check` lists the rows.",
        ),
        reasons=frozenset({R.HISTORY}),
        refuted_by="Refuted if the official API takes the same requests, with the same parameters.",
    ),
    Rule(
        "schema_rule_refuses",
        _SAID,
        Base.REQUESTS,
        "The server probably has rules for tool schemas that some of these rows break.",
        "{count} of {base} are refused for a tool's schema ({statuses}).",
        (
            (
                "Moonshot's own rules (MoonshotAI/walle) are stricter than JSON Schema: the official API "
                "may refuse the same rows."
            ),
        ),
        reasons=frozenset({R.SCHEMA_RULE}),
        refuted_by="Refuted if the same request without its tools is refused in the same words.",
    ),
    Rule(
        "schema_compiler_refuses",
        _SAID,
        Base.REQUESTS,
        "The server probably cannot compile some tool schemas: its grammar compiler fails.",
        "{count} of {base} are refused by a grammar compiler ({statuses}).",
        (
            (
                "vLLM's grammar backends have refused keywords such as minItems, propertyNames and unknown "
                "formats (issues 16880 and 26421)."
            ),
            "A server that cannot compile a schema can still answer without constraining the call.",
        ),
        reasons=frozenset({R.SCHEMA_COMPILER}),
        refuted_by="Refuted if the same request without its tools is refused in the same words.",
    ),
    Rule(
        "parameter_refused",
        _SAID,
        Base.REQUESTS,
        "The endpoint probably does not take one of the request's parameters.",
        "{count} of {base} are refused for a parameter ({statuses}).",
        (SAMPLING, "Leave the parameter out, or give the value that the endpoint names."),
        reasons=frozenset({R.PARAMETER}),
        refuted_by="Refuted if a request without the parameter is refused in the same words.",
    ),
    Rule(
        "tool_name_refused",
        _SAID,
        Base.REQUESTS,
        "The endpoint probably has rules for tool names that some rows break.",
        "{count} of {base} are refused for a tool's name ({statuses}).",
        ("The official API takes letters, digits, - and _, a letter or _ first, 3 to 64 of them.",),
        reasons=frozenset({R.TOOL_NAME}),
        refuted_by="Refuted if the official API refuses the same names.",
    ),
    Rule(
        "request_too_large",
        _SAID,
        Base.REQUESTS,
        "A gateway probably limits the size of requests below what these rows need.",
        "{count} of {base} are refused for their size ({statuses}).",
        ("nginx: client_max_body_size. Others: the limit of the request body.",),
        reasons=frozenset({R.SIZE}),
        refuted_by="Refuted if the engine itself, past the gateway, refuses the same requests.",
    ),
    Rule(
        "model_not_served",
        _SAID,
        Base.REQUESTS,
        "The endpoint probably does not serve a model of this name, or not on every backend.",
        "{count} of {base} are refused for the model's name ({statuses}).",
        ("`k2-verifier doctor --api-url URL` lists the models that the endpoint names.",),
        reasons=frozenset({R.MODEL}),
        refuted_by="Refuted if the endpoint lists the name under /models, and answers to it.",
    ),
    Rule(
        "content_refused",
        _SAID,
        Base.REQUESTS,
        "A moderation before the model probably refuses some prompts.",
        "{count} of {base} are refused for their content ({statuses}).",
        ("Ask the vendor which filter it is; the official API may refuse the same rows.",),
        reasons=frozenset({R.CONTENT}),
        refuted_by="Refuted if the official API refuses the same requests.",
    ),
    Rule(
        "account_exhausted",
        _SAID,
        Base.REQUESTS,
        "The account probably has no credit left, or its quota is used up.",
        "{count} of {base} are refused for the account ({statuses}).",
        ("Recharge, or wait for the quota, and continue the run with --use-cache.",),
        reasons=frozenset({R.CREDIT, R.QUOTA}),
        refuted_by="Refuted if another model of the same account is answered.",
    ),
    Rule(
        "requests_not_accepted",
        (C.HTTP_4XX,),
        Base.REQUESTS,
        "The endpoint probably does not accept these requests; why, only its own words say.",
        "{count} of {base} are refused ({statuses}).",
        (
            (
                "By status: 401 and 403 are about the key, 402 about the balance, 404 about URL or model "
                "name, 413 about the size."
            ),
        ),
        reasons=_KEPT,
        refuted_by="Refuted if the same requests are taken when they are sent again.",
    ),
    Rule(
        "rate_limit",
        (C.RATE_LIMITED,),
        Base.REQUESTS,
        "The rate limit of the key or of the endpoint is probably below this run's rate.",
        "{count} of {base} fail with 429 in every attempt, and no word of credit or quota.",
        ("Ask with a lower concurrency (--eval-batch-size), or raise the limit.",),
        reasons=_KEPT,
        refuted_by="Refuted if a single request, sent alone after a minute, gets 429 as well.",
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
        reasons=_KEPT,
        refuted_by=(
            "Refuted if the same cases fail alone as well, one at a time: then something in them does it."
        ),
    ),
    Rule(
        "server_not_there",
        (C.CONNECTION_FAILED,),
        Base.REQUESTS,
        "Nothing probably listens at the address: the server is down, or the URL is another one.",
        "{count} of {base} get no connection in any attempt.",
        (
            (
                "Is the server running, and did it crash in the course of the run? Its log and its last "
                "answer tell when."
            ),
        ),
        refuted_by="Refuted if the server's log shows that it ran all the time: then the way to it is cut.",
    ),
    Rule(
        "flaky_network",
        (C.CONNECTION_RESET, C.STREAM_CUT, C.TIMED_OUT),
        Base.REQUESTS,
        "The network, or a gateway with short time limits, probably breaks connections.",
        "{count} of {base} break off or time out in every attempt.",
        (
            "Idle and read time limits of load balancers have to outlast reasoning without output.",
            "Buffering proxies must let event streams through.",
        ),
        refuted_by=(
            "Refuted if the log of the server shows that it closed these connections itself, or crashed."
        ),
    ),
    Rule(
        "not_an_api_answer",
        (C.NOT_A_COMPLETION, C.RESPONSE_TOO_LARGE),
        Base.REQUESTS,
        "Something before the model probably answers in its place.",
        "{count} of {base} get status 200 with what is no completion, or one without end.",
        ("Look at such an answer: an HTML page or an error object comes from a gateway or a wrong URL.",),
        reasons=_KEPT,
        refuted_by="Refuted if the same URL answers a single request by hand with a completion.",
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
        refuted_by="Refuted if the log of the endpoint shows none of these requests.",
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
        refuted_by="Refuted if the names are aliases of one deployment.",
    ),
    Rule(
        "pin_not_kept",
        (C.OTHER_PROVIDER,),
        Base.REQUESTS,
        "The router probably does not keep to the provider that the requests pin.",
        "{count} of {base} were answered by another provider.",
        (
            "Forbid fallbacks (OpenRouter: provider.only, provider.allow_fallbacks) and check the slug.",
            "Verify the provider at its own endpoint.",
        ),
        refuted_by="Refuted if the name in the answers is another one of the same provider.",
    ),
    # rows that cannot be judged by
    Rule(
        "rows_with_unusable_schemas",
        (C.BROKEN_TOOL_SCHEMA, C.TOOL_WITHOUT_SCHEMA, C.SCHEMA_TIMEOUT),
        Base.CALLING,
        "These calls fail because of the rows' tool schemas, and probably not because of the vendor.",
        "{count} of {base} call a tool whose schema is missing, broken or too slow to check.",
        ("Compare with the official answer to the same rows before holding this against the vendor.",),
        refuted_by="Refuted if the official answers to the same rows are valid.",
    ),
)
"""All rules; of findings that explain as much, the earlier rule's comes first."""
