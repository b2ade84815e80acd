"""Summaries in which every text that a vendor, a prompt or a user can choose is given."""

from array import array
from collections import Counter
from dataclasses import replace

from unit.stored_runs import answering, calling, failed, make_cases, make_facts, make_record, make_row

from k2_verifier_adapter.core.counts import ToolCounts, ToolTally
from k2_verifier_adapter.core.failure_classes import FailureClass
from k2_verifier_adapter.core.judged import judge_all
from k2_verifier_adapter.core.log_facts import LogFacts, Places
from k2_verifier_adapter.core.run_facts import RowsInfo
from k2_verifier_adapter.core.summary import summarize

HOSTILE = [
    "| a | b |\n|---|---|\n| c | d |",
    "</td></tr></table><h1>forged</h1>",
    "</script><script>document.title='forged'</script>",
    "<img src=x onerror=\"document.title='forged'\">",
    "javascript:alert(1)",
    "[link](javascript:alert(1)) ![image](https://evil.example/x.png)",
    "<https://evil.example> https://evil.example www.evil.example a@evil.example mailto:a@evil.example",
    "@octocat #1 GH-1 octocat/repo#1 a5c3785ed8d6a35868bc169f07e40e889087fd2e",
    "`code` ``` *bold* __bold__ ~~struck~~ $math$ \\| \\` &lt;b&gt; &#124;",
    "]]> <!-- comment --> <?php ?> <![CDATA[ x ]]>",
    "# heading",
    "- item\n- item",
    "1. item",
    "> quote\n\n    code",
    "===",
    "---",
    "</details>\n\n# out",
    "\x00\x07\x1b[31mred\x1b[0m\x7f\u202eabc\u2028\ud800\ufffe",
    "你好，世界 🙂",
    "",
]
"""Texts that would forge structure, run or reach out, were they taken for what they look like."""

ANSWERS = [calling(), answering(), calling("{"), calling('{"town": 1}'), answering(finish_reason="eos")]


def plain_summary(**changes):
    """Make a summary with failures of several kinds, findings' classes and two tools."""
    rows = [make_row(f"question {number}", call=number % 2 == 0) for number in range(len(ANSWERS) + 1)]
    cases = {case.index: case for case in make_cases(rows)}
    records = [make_record(cases[number], answer) for number, answer in enumerate(ANSWERS)]
    refused = [failed(len(ANSWERS), FailureClass.HTTP_4XX, 400, "HTTP 400: no")]
    items = [*judge_all(cases, records), *refused]
    return summarize(make_facts(len(rows), **changes), cases.values(), items)


def with_texts(text):
    """Put a text wherever a summary can hold a foreign one."""
    summary = plain_summary()
    observed = replace(
        summary.observed,
        models=Counter({f"m{text}": 3}),
        providers=Counter({f"{text}p": 2}),
        system_fingerprints=Counter({text: 1}),
    )
    counts = ToolCounts(3, 1, Counter({FailureClass.TRUNCATED_JSON: 1}))
    facts = replace(
        summary.facts,
        model=f"m{text}",
        subset=f"s{text}",
        endpoint_host=f"h{text}",
        rows=RowsInfo(text, "ab" * 32, synthetic=False),
        parameters={f"p{text}": text, "list": [text, {text: text}]},
        started_at=f"2026{text}",
    )
    finding = replace(some_finding(), evidence=f"e{text}")
    return replace(
        summary,
        facts=facts,
        observed=observed,
        warnings=(text, f"w{text}"),
        findings=(finding,),
        tally=replace(
            summary.tally,
            others_detail=Counter({text: 1}),
            tools=ToolTally({f"{text}1": counts, f"t{text}": counts}),
        ),
        log=LogFacts(lines=5, scored=5, duplicates=Places(1, array("Q", [3]))),
    )


def some_finding():
    """Make a finding."""
    from k2_verifier_adapter.core.diagnosis.findings import Finding, TwoMetrics

    return Finding(
        rule="truncated",
        hypothesis="Arguments lose their end.",
        evidence="1 of 3 breaks off.",
        count=1,
        base=3,
        classes={FailureClass.TRUNCATED_JSON: 1},
        cases=(2,),
        if_fixed=TwoMetrics(1.0, 1.0),
        explains=TwoMetrics(1.0, None),
        checks=("Look at the stream.",),
        refuted_by="Refuted if not.",
    )
