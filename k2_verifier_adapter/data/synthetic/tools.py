"""The catalogue of tools, and how one tool is written into a request."""

from __future__ import annotations

from typing import Any

from k2_verifier_adapter.data.synthetic.languages import Language, localise
from k2_verifier_adapter.data.synthetic.tool_spec import ToolSpec
from k2_verifier_adapter.data.synthetic.tools_everyday import EVERYDAY_TOOLS
from k2_verifier_adapter.data.synthetic.tools_schemas import SCHEMA_TOOLS
from k2_verifier_adapter.data.synthetic.tools_shop import SHOP_TOOLS
from k2_verifier_adapter.data.synthetic.tools_work import WORK_TOOLS

CATALOGUE: tuple[ToolSpec, ...] = (*EVERYDAY_TOOLS, *SHOP_TOOLS, *WORK_TOOLS, *SCHEMA_TOOLS)
CLOCK = next(spec for spec in CATALOGUE if spec.name == "now")
"""The smallest tool: no description worth the name and no arguments."""
SEARCH = next(spec for spec in CATALOGUE if spec.name == "web_search")
"""A tool that every conversation can have used."""


def render_tool(spec: ToolSpec, language: Language) -> dict[str, Any]:
    """Write one tool as a request holds it."""
    function: dict[str, Any] = {"name": spec.name}
    if spec.description is not None:
        function["description"] = spec.description.pick(language)
    function["parameters"] = localise(spec.parameters, language)
    return {"type": "function", "function": function}


def make_schema_distinct(tool: dict[str, Any], row: int, position: int) -> None:
    """Give a tool's schema an optional property of its own, so that no schema cache can serve two rows."""
    parameters = tool["function"].get("parameters")
    if not parameters:
        return
    properties = parameters.setdefault("properties", {})
    properties[f"tag_{row}_{position}"] = {
        "type": "string",
        "description": f"Tag of request {row}, tool {position}; copied into the audit log.",
        "maxLength": 64 + row % 64,
    }
