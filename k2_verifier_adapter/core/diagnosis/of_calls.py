"""Rules of the diagnosis: arguments, names, ids and streams of tool calls."""

from __future__ import annotations

from k2_verifier_adapter.core.diagnosis.advice import (
    GUIDED_SGLANG,
    GUIDED_VLLM,
    IDS,
    UNSTREAMED,
)
from k2_verifier_adapter.core.diagnosis.measures import Measure
from k2_verifier_adapter.core.diagnosis.rule import Base, Condition, Rule
from k2_verifier_adapter.core.failure_classes import FailureClass as C

ARGUMENT_RULES = (
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
)


NAME_RULES = (
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
)


STREAM_RULES = (
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
)
