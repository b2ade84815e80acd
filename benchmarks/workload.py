"""The rows, and the answers to them, that both sides of a benchmark work on.

Rows come from this package's seeded generator, every tool schema with a property of its own. EvalScope's
own benchmark aborts on several shapes of real rows (null content, `_input` and `developer` roles, calls
without id, union types and others), so tools and rows that it cannot load and send are left out: what is
compared is speed, on equal terms. The rest is written as a hub snapshot, the only local form that
EvalScope's own benchmark loads.

Run as a script by `performance.py`, so that the process that measures stays small.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from synthetic.rows import generate_rows

SUBSET = "k2_thinking"
COLUMNS = (
    "messages",
    "tools",
    "should_call_tool",
    "official_finish_reason",
    "official_tool_calls",
    "synthetic",
)
"""The hosted columns. Not `parameters`: rows with their own would be sent differently by the two sides."""

SEED = 20_25_11
MEAN_CHARS = 8_500
"""Gives requests of about 10 kB: some rows are Chinese, at three bytes a character."""

ANSWER_BYTES = 512
_README = f"""---
configs:
- config_name: {SUBSET}
  data_files:
  - split: test
    path: data/{SUBSET}/test.jsonl
---
Synthetic rows for benchmarks.
"""


def prepare(folder: Path, count: int) -> dict[str, Any]:
    """Write the snapshot and the answers; give what is worth reporting of them.

    Args:
        folder: Directory for `snapshot/` and `answers.jsonl`.
        count: Number of rows.
    """
    rows_path = folder / "snapshot" / "data" / SUBSET / "test.jsonl"
    rows_path.parent.mkdir(parents=True)
    (folder / "snapshot" / "README.md").write_text(_README, encoding="utf-8")
    request_bytes = answer_bytes = 0
    missing = {"tool_calls": count // 2, "stop": count - count // 2}
    with (
        rows_path.open("w", encoding="utf-8") as rows,
        (folder / "answers.jsonl").open("w", encoding="utf-8") as answers,
    ):
        for generated, tag in _rows(count):
            row = _usable(generated, tag)
            if row is None:
                continue
            answer = _answer(row, tag)
            if not missing[answer["finish_reason"]]:
                continue
            missing[answer["finish_reason"]] -= 1
            rows.write(json.dumps(row, ensure_ascii=False) + "\n")
            answers.write(json.dumps({"tag": tag, "answer": answer}) + "\n")
            request_bytes += len(row["messages"].encode()) + len(row["tools"].encode())
            answer_bytes += len(json.dumps(answer))
            if not any(missing.values()):
                break
    if any(missing.values()):
        raise SystemExit(f"too few rows that both sides can use: {missing} of {count} are missing")
    return {
        "rows": count,
        "answers_with_calls": count // 2,
        "mean_request_bytes": round(request_bytes / count),
        "mean_answer_bytes": round(answer_bytes / count),
        "seed": SEED,
    }


def _rows(count: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Generate more rows than are needed, each with its number."""
    rows = generate_rows(2 * count + 100, SEED, distinct_tools=True, mean_chars=MEAN_CHARS)
    for number, row in enumerate(rows):
        yield {name: row[name] for name in COLUMNS}, number


def _usable(row: dict[str, Any], number: int) -> dict[str, Any] | None:
    """Give the row as EvalScope's own benchmark can load it and make a request of it; None if in no way."""
    from evalscope.benchmarks.k2_verifier.k2_verifier_adapter import K2VerifierAdapter
    from evalscope.models.utils.openai import openai_chat_messages, openai_chat_tools

    tools = [tool for tool in json.loads(row["tools"]) if _is_usable(tool)]
    called = {call["function"]["name"] for call in json.loads(row["official_tool_calls"] or "[]")}
    text = json.dumps(tools, ensure_ascii=False)
    # The endpoint knows a request by this tag, as it stands in a schema of the row's own.
    if f'"tag_{number}_' not in text or not called <= {tool["function"]["name"] for tool in tools}:
        return None
    row = {**row, "tools": text}
    try:
        sample = K2VerifierAdapter.record_to_sample(None, dict(row))
        openai_chat_tools(sample.tools)
        messages = openai_chat_messages(sample.input)
        json.dumps(messages, ensure_ascii=False, default=str).encode()
    except Exception:  # noqa: BLE001 - whatever it raises, it would abort the run
        return None
    return row


def _is_usable(tool: dict[str, Any]) -> bool:
    from evalscope.api.tool import ToolInfo

    try:
        ToolInfo.model_validate(tool["function"])
    except ValueError:
        return False
    return True


def _answer(row: dict[str, Any], number: int) -> dict[str, Any]:
    """Give the official answer, filled up to about half a kilobyte."""
    calls = json.loads(row["official_tool_calls"]) if row["official_tool_calls"] else []
    finish_reason = "tool_calls" if calls else "stop"
    missing = ANSWER_BYTES - len(json.dumps(calls)) - 250
    text = f"Answer {number}. " + "The quick brown fox jumps over the lazy dog. " * 20
    return {"content": text[: max(20, missing)], "tool_calls": calls, "finish_reason": finish_reason}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("count", type=int)
    options = parser.parse_args()
    print(json.dumps(prepare(options.folder, options.count)))


if __name__ == "__main__":
    main()
