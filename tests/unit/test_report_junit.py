"""The report as JUnit XML: valid whatever a vendor writes, and of one mind with the exit code."""

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hostile_summaries import HOSTILE, plain_summary, with_texts

from k2_verifier_adapter.core.gate import exit_code
from k2_verifier_adapter.core.verdict import (
    Gate,
    GateOptions,
    Requirements,
    Status,
    WhenInconclusive,
    strict_verdict,
)
from k2_verifier_adapter.reports.junit import render_junit

ATTRIBUTES = {
    "testsuites": {"name", "tests", "failures", "errors", "skipped", "time"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname"},
    "properties": set(),
    "property": {"name", "value"},
    "testcase": {"classname", "name", "time"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
    "skipped": {"message"},
    "system-out": set(),
}
CHILDREN = {
    "testsuites": ["testsuite"],
    "testsuite": ["properties", "testcase", "system-out"],
    "properties": ["property"],
    "testcase": ["failure", "error", "skipped", "system-out"],
}
STRICT = GateOptions(gate=Gate.STRICT)


def with_gate(summary, options):
    """Give the summary of a run with another gate."""
    return replace(summary, facts=replace(summary.facts, gate=options))


def parsed(summary, options=STRICT):
    """Render a report, parse it, and check its structure as the JUnit schema has it."""
    root = ET.fromstring(render_junit(with_gate(summary, options)).encode())
    for element in root.iter():
        assert set(element.attrib) <= ATTRIBUTES[element.tag]
        order = CHILDREN.get(element.tag, [])
        places = [order.index(child.tag) for child in element]
        assert places == sorted(places)
    suite = root.find("testsuite")
    cases = suite.findall("testcase")
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.get(name)) == sum(case.find(tag) is not None for case in cases)
        assert suite.get(name) == root.get(name)
    assert int(suite.get("tests")) == len(cases) > 0
    assert len({case.get("name") for case in cases}) == len(cases)
    return suite


def outcomes(suite):
    """Give the element that each case ends with, by the case's name."""
    return {case.get("name"): case[0] for case in suite.findall("testcase")}


def judged(status):
    """Make a summary whose primary metric passes, fails or is inconclusive."""
    summary = plain_summary()
    threshold = {Status.PASS: 0.01, Status.FAIL: 0.99, Status.INCONCLUSIVE: 0.5}[status]
    requirements = Requirements(threshold, surplus=None, accuracy=None)
    summary = replace(summary, verdict=strict_verdict(summary.tally, requirements))
    assert summary.verdict.status is status
    return summary


@pytest.mark.parametrize("text", HOSTILE)
def test_any_vendor_text_gives_valid_xml(text):
    """Control characters, surrogates and markup in names and warnings break nothing and add nothing."""
    suite = parsed(with_texts(text))
    assert [child.tag for child in suite] == [child.tag for child in parsed(with_texts("x"))]


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_at_all_gives_valid_xml(text):
    """No character that Python knows makes the document invalid."""
    parsed(with_texts(text))


@pytest.mark.parametrize("gate", list(Gate))
@pytest.mark.parametrize("inconclusive", [None, *WhenInconclusive])
@pytest.mark.parametrize("status", [Status.PASS, Status.FAIL, Status.INCONCLUSIVE])
def test_a_case_fails_exactly_where_the_exit_code_is_1(gate, inconclusive, status):
    """Under every gate, a failure stands in the file if the gate fails, and none if it does not."""
    summary = judged(status)
    options = GateOptions(gate=gate, inconclusive=inconclusive, requirements=Requirements(coverage=0.1))
    suite, code = parsed(summary, options), exit_code(with_gate(summary, options)).code
    assert (int(suite.get("failures")) > 0) == (code == 1)
    assert suite.get("errors") == "0"
    if code == 3:
        assert int(suite.get("skipped")) > 0


def test_the_rule_that_was_not_chosen_is_skipped_with_its_result():
    """What the gate does not decide is neither green nor red, and says what was found."""
    gate = GateOptions(gate=Gate.UPSTREAM, requirements=Requirements(coverage=0))
    found = outcomes(parsed(judged(Status.FAIL), gate))
    strict = found["trigger_similarity: at least 99.00%, strict rule (95% interval)"]
    assert strict.tag == "skipped"
    assert strict.get("message").startswith("failed, but the gate is upstream: trigger_similarity is ")
    upstream = found["trigger_similarity: at least 99.00%, upstream's rule (value)"]
    assert (upstream.tag, upstream.get("type")) == ("failure", "threshold")


def test_a_void_verdict_is_skipped_with_the_reason():
    """Synthetic rows, or several models, give no red and no green check."""
    summary = plain_summary()
    verdict = strict_verdict(summary.tally, Requirements(0.99), void_reason="synthetic rows: no verdict")
    found = outcomes(parsed(replace(summary, verdict=verdict)))
    checks = [element for name, element in found.items() if name.startswith("trigger_similarity")]
    assert [element.tag for element in checks] == ["skipped", "skipped"]
    assert all("synthetic rows: no verdict" in element.get("message") for element in checks)


def test_no_threshold_is_skipped_with_the_reason():
    """Without a threshold the other checks decide nothing either."""
    summary = plain_summary()
    found = outcomes(parsed(replace(summary, verdict=strict_verdict(summary.tally, Requirements()))))
    checks = [element for name, element in found.items() if "strict rule" in name]
    assert [element.tag for element in checks] == ["skipped", "skipped"]
    assert all("no threshold is known for this subset" in element.get("message") for element in checks)


@pytest.mark.parametrize(
    ("changes", "options", "name"),
    [
        ({"complete": False, "stopped": "max_requests"}, STRICT, "all requests were made"),
        (
            {},
            GateOptions(gate=Gate.STRICT, requirements=Requirements(coverage=0.9)),
            "requests completed: at least 90.00%",
        ),
    ],
)
def test_an_incomplete_run_is_an_error(changes, options, name):
    """What makes the exit code 3 for want of data is an error, not a failure of the vendor."""
    summary = judged(Status.PASS)
    summary = replace(summary, facts=replace(summary.facts, **changes))
    found = outcomes(parsed(summary, options))
    assert (found[name].tag, found[name].get("type")) == ("error", "incomplete")
    assert exit_code(with_gate(summary, options)).code == 3


def test_the_numbers_are_those_of_the_summary():
    """Every metric stands among the properties, to the last digit."""
    summary = plain_summary()
    properties = {item.get("name"): item.get("value") for item in parsed(summary).find("properties")}
    for metric in summary.metrics:
        assert properties[metric.name] == ("undefined" if metric.value is None else repr(metric.value))
        assert properties[f"{metric.name}.n"] == str(metric.n)
        if metric.interval is not None:
            assert float(properties[f"{metric.name}.low"]) == metric.interval.low
