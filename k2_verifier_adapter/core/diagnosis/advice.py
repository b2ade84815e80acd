"""What several rules of the diagnosis advise.

Sources of all that is advised: upstream's suggestions to vendors (README of MoonshotAI/K2-Vendor-Verifier),
vLLM's documentation of tool calling and its article "Chasing 100% Accuracy" of 2025-10-28, SGLang's
documentation of its parsers and environment variables, and the pull requests that are given by number.
"""

from __future__ import annotations

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
