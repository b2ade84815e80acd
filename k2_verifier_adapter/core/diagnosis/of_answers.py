"""Rules of the diagnosis: leaks, answers that say nothing, how they end, and the decision to call."""

from __future__ import annotations

from k2_verifier_adapter.core.diagnosis.advice import (
    IDS,
    REASONING_PARSER,
    TOOL_PARSER,
    UNSTREAMED,
    VERSIONS,
)
from k2_verifier_adapter.core.diagnosis.measures import Measure
from k2_verifier_adapter.core.diagnosis.rule import Base, Condition, Rule
from k2_verifier_adapter.core.failure_classes import FailureClass as C

TEXT_RULES = (
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
)


END_RULES = (
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
)


DECISION_RULES = (
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
        ),
    ),
)
