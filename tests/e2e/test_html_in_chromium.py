"""The HTML report in a real browser: offline, silent, usable, and deaf to what vendors write."""

import json

import pytest
from support.chromium import PALE_TEXTS, Chromium, find_chromium
from support.hostile_summaries import HOSTILE, with_texts
from support.rendered import render_html
from unit.stored_runs import answering, calling, make_row, write_run

from k2_verifier_adapter.core.failure_classes import Failure, FailureClass
from k2_verifier_adapter.formats.runs import choose_run, read_run
from k2_verifier_adapter.offline.failed_cases import failed_cases_of_run
from k2_verifier_adapter.offline.stored import judge_run, summary_of
from k2_verifier_adapter.reports.failed_cases import Call, FailedCase, Turn
from k2_verifier_adapter.reports.marked_text import arguments_of_call, marked

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")

CASES = 120


@pytest.fixture(scope="module")
def browser():
    """One browser for all tests."""
    with Chromium() as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report on a run in which every case fails, every third one by its arguments."""
    folder = tmp_path_factory.mktemp("page")
    rows = [make_row(f"question {number}", call=number % 3 == 0) for number in range(CASES)]
    answers = [calling('{"city": 7}') if number % 3 == 0 else calling() for number in range(CASES)]
    run = read_run(
        choose_run(write_run(folder / "run", rows, [*answers[:-1], answering("", finish_reason="eos")]))
    )
    file = folder / "report.html"
    file.write_text(render_html(summary_of(run), failed_cases_of_run(run, judge_run(run))))
    return file


def hostile_cases():
    """Give a failed case for each hostile text, which stands wherever one can."""
    for row, text in enumerate(HOSTILE):
        arguments = arguments_of_call(json.dumps({text: text}), [f"$.{text}"])
        yield FailedCase(
            row=row,
            data_index=row + 1,
            repeat=0,
            failures=(Failure(FailureClass.WRONG_TYPE, text, call=0, tool=text, path=text, keyword=text),),
            ended=f"finish_reason {text}",
            official=f"calls {text}",
            turns=(Turn(text, text),),
            texts={"content": marked(text, [text[:5]])},
            calls=(Call(text, text, arguments),),
            raw=text,
            official_calls=(Call(text, text, arguments),),
        )


OPEN_ALL = """
(async () => {
  const more = document.getElementById("case-more");
  while (!more.hidden) more.click();
  const cases = [...document.querySelectorAll("details")];
  for (const each of cases) each.open = true;
  await new Promise((done) => setTimeout(done));
  return document.querySelectorAll("#case-list > details > .group").length;
})()
"""


@pytest.mark.parametrize("dark", [False, True])
def test_it_loads_nothing_and_complains_about_nothing(browser, page, dark):
    """Opened, with every case unfolded, the page asks for no address and logs no word."""
    browser.open(page, dark=dark)
    assert browser.evaluate(OPEN_ALL) >= CASES
    assert browser.requests() == []
    assert browser.complaints() == []


def test_nothing_from_a_vendor_runs(browser, tmp_path):
    """Scripts, handlers and links in model names, tools and answers are shown, and stay what they are."""
    file = tmp_path / "hostile.html"
    for text in HOSTILE:
        file.write_text(render_html(with_texts(text), list(hostile_cases())), errors="backslashreplace")
        browser.open(file)
        assert browser.evaluate(OPEN_ALL) >= len(HOSTILE)
        assert browser.evaluate("document.title").startswith("K2 vendor verification: ")
        assert browser.evaluate("document.querySelectorAll('img, iframe, script, form').length") == 2
        outside = "[...document.links].filter((a) => !a.getAttribute('href').startsWith('#')).length"
        assert browser.evaluate(outside) == 0
        assert browser.requests() == []
        assert browser.complaints() == []
    assert "<img src=x onerror=" in browser.evaluate("document.getElementById('case-list').innerText")


def test_the_policy_stops_a_script_that_got_in(browser, page, tmp_path):
    """Even if markup got into the page, its script would not run and its picture would not load."""
    file = tmp_path / "injected.html"
    injected = "<script>document.title='forged'</script><img src='https://evil.example/x' onerror=\"document.title='forged'\">"
    file.write_text(page.read_text().replace("</main>", f"{injected}</main>"))
    browser.open(file)
    assert browser.evaluate("document.title") != "forged"
    assert browser.complaints() != []


def test_cases_can_be_browsed_filtered_and_linked(browser, page):
    """The list grows on demand, can be cut down to a class or a row, and links open their case."""
    browser.open(page)
    listed = "document.querySelectorAll('#case-list > details').length"
    assert browser.evaluate(listed) == 50
    browser.evaluate("document.getElementById('case-more').click()")
    assert browser.evaluate(listed) == 100
    assert browser.evaluate("document.activeElement.parentElement.id") == "case-50"
    choose = "(k => { k.value = '%s'; k.dispatchEvent(new Event('change')); })(document.getElementById('case-class'))"
    browser.evaluate(choose % "wrong_type")
    assert browser.evaluate("document.getElementById('case-count').textContent") == "40 of 40 shown"
    browser.evaluate(choose % "")
    write = "(k => { k.value = '%s'; k.dispatchEvent(new Event('input')); })(document.getElementById('case-text'))"
    browser.evaluate(write % "Question 11")
    assert browser.evaluate("document.getElementById('case-count').textContent") == "11 of 11 shown"
    assert browser.evaluate("document.querySelector('#case-110 .prompt').textContent") == "question 110"
    assert "Row 110 data_index 111 " in browser.evaluate("document.querySelector('#case-110').textContent")
    browser.evaluate(write % "")
    pick = "(k => { k.value = '%s'; k.dispatchEvent(new Event('change')); })(document.getElementById('case-tool'))"
    browser.evaluate(pick % "weather")
    assert browser.evaluate("document.getElementById('case-count').textContent") == "50 of 119 shown"
    browser.open(page, "#failures")
    assert browser.evaluate("document.querySelector('#failures > details').open")
    browser.open(page, "#case-99")
    assert browser.evaluate("document.getElementById('case-99').open")
    follow = "new Promise((done) => { addEventListener('hashchange', () => setTimeout(done)); %s.click(); })"
    browser.evaluate(follow % "document.querySelector('a[href=\"#case-3\"]')")
    assert browser.evaluate("document.activeElement.parentElement.id") == "case-3"
    assert browser.evaluate("document.querySelector('#case-3 mark').textContent") == "7"


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_nothing_is_wider_than_the_screen(browser, page, width):
    """On a phone as on a desktop, with a case open, the page itself never scrolls sideways."""
    browser.open(page, "#case-3", width=width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("word", ["pass", "fail", "inconclusive", "none"])
def test_every_text_has_the_contrast_of_aa(browser, page, tmp_path, word, dark):
    """In both themes, under every verdict, with a case open, all texts reach 4.5 to 1."""
    file = tmp_path / "verdict.html"
    text = page.read_text()
    assert 'class="verdict fail"' in text
    file.write_text(
        text.replace('class="verdict fail"', f'class="verdict {word}"').replace(
            "status fail", f"status {word}"
        )
    )
    browser.open(file, "#case-3", dark=dark)
    browser.evaluate("new Promise((done) => setTimeout(done))")
    assert browser.evaluate(PALE_TEXTS) == []
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(15, 20, 26)" if dark else "rgb(255, 255, 255)"
    )


def test_without_scripts_everything_but_the_cases_is_there(browser, page):
    """Verdict, metrics, classes and provenance need no script; the page says what does."""
    browser.open(page, scripts=False)
    browser.send("Emulation.setScriptExecutionDisabled", value=False)
    words = browser.evaluate("document.body.innerText")
    for word in ("trigger_similarity", "Failure classes", "wrong_type", "Provenance", "needs JavaScript"):
        assert word in words
    assert browser.evaluate("document.getElementById('case-browser').hidden")
