"""Rules of the diagnosis: requests that fail, routers, and rows that cannot be judged by."""

from __future__ import annotations

from k2_verifier_adapter.core.diagnosis.measures import Measure
from k2_verifier_adapter.core.diagnosis.rule import Base, Condition, Rule
from k2_verifier_adapter.core.failure_classes import FailureClass as C

REQUEST_RULES = (
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
)


ROW_RULES = (
    Rule(
        "rows_with_unusable_schemas",
        (C.BROKEN_TOOL_SCHEMA, C.TOOL_WITHOUT_SCHEMA, C.SCHEMA_TIMEOUT),
        Base.CALLING,
        "These calls fail because of the rows' tool schemas, and probably not because of the vendor.",
        "{count} of {base} call a tool whose schema is missing, broken or too slow to check.",
        ("Compare with the official answer to the same rows before holding this against the vendor.",),
    ),
)
