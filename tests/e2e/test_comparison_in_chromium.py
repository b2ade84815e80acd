"""The HTML comparison in a real browser: offline, silent, no wider than the screen, and readable."""

import pytest
from support.chromium import PALE_TEXTS, Chromium, find_chromium
from support.compared import answers_of, crowd, participant, varied
from support.hostile_summaries import HOSTILE
from support.rendered import comparison_as_html

from k2_verifier_adapter.core.comparison.compare import compare, not_worse

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")

OPEN_ALL = "for (const each of document.querySelectorAll('details')) each.open = true"


@pytest.fixture(scope="module")
def browser():
    """One browser for all tests."""
    with Chromium() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages on three runs, on two that are held against each other, and on ten with long names."""
    folder = tmp_path_factory.mktemp("pages")
    worse = compare(
        [
            participant(folder / "worse", answers_of(60, wrong=12), endpoint_host="a.example.com"),
            participant(folder / "other", answers_of(60)),
        ]
    )
    rendered = {
        "three": comparison_as_html(varied(folder)["three"]),
        "gated": comparison_as_html(worse, not_worse(worse)),
        "ten": comparison_as_html(crowd(10, 300, text="a-name-without-end" * 9)),
    }
    written = {}
    for name, text in rendered.items():
        written[name] = folder / f"{name}.html"
        written[name].write_text(text)
    return written


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("name", ["three", "gated", "ten"])
def test_it_is_silent_readable_and_no_wider_than_the_screen(browser, pages, name, width, dark):
    """In both themes, on a phone and a desktop, all unfolded: nothing loaded or logged, nothing cut or pale."""
    browser.open(pages[name], width=width, dark=dark)
    browser.evaluate(OPEN_ALL)
    assert browser.requests() == []
    assert browser.complaints() == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(PALE_TEXTS) == []
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(15, 20, 26)" if dark else "rgb(255, 255, 255)"
    )


def test_nothing_from_a_vendor_runs(browser, tmp_path):
    """Names and sources that would be scripts, handlers or links are shown, and stay what they are."""
    file = tmp_path / "hostile.html"
    for text in HOSTILE:
        file.write_text(comparison_as_html(crowd(2, 6, text=text or " ")), errors="backslashreplace")
        browser.open(file)
        browser.evaluate(OPEN_ALL)
        assert browser.evaluate("document.title").startswith("K2 vendor comparison: 2 runs over 6 cases")
        assert browser.evaluate("document.querySelectorAll('img, iframe, script, form').length") == 0
        outside = "[...document.links].filter((a) => !a.getAttribute('href').startsWith('#')).length"
        assert browser.evaluate(outside) == 0
        assert browser.requests() == []
        assert browser.complaints() == []


def test_without_scripts_everything_is_there(browser, pages):
    """The page needs no script: tables, plots and the cases that differ are there without one."""
    browser.open(pages["three"], scripts=False)
    browser.send("Emulation.setScriptExecutionDisabled", value=False)
    words = browser.evaluate("document.body.innerText")
    for word in ("Leaderboard", "Upstream's table", "Trigger similarity, pair by pair", "Provenance"):
        assert word in words
    browser.evaluate("document.querySelector('#changes summary').click()")
    assert "data_index" in browser.evaluate("document.querySelector('#changes').innerText")


def test_the_keyboard_reaches_tables_and_folds(browser, pages):
    """What scrolls and what unfolds can be focused, and the first stop leads past the header."""
    browser.open(pages["ten"], width=400)
    stops = "[...document.querySelectorAll('.scroll, summary, a[href]')]"
    assert browser.evaluate(f"{stops}.every((stop) => stop.tabIndex === 0)")
    assert browser.evaluate("document.querySelector('a[href]').className") == "skip"
    for key in ("Down", "Up"):
        browser.send(
            "Input.dispatchKeyEvent", type=f"key{key}", key="Tab", code="Tab", windowsVirtualKeyCode=9
        )
    assert browser.evaluate("document.activeElement.className") == "skip"
    assert browser.evaluate("document.activeElement.getBoundingClientRect().x") >= 0


def test_the_points_of_a_plot_stand_where_their_numbers_say(browser, pages):
    """The circles of a difference plot lie on the side of 0 that their sign says, in the order of their values."""
    browser.open(pages["ten"])
    rows = browser.evaluate(
        """[...document.querySelectorAll('#differences tbody tr')].map((row) => {
            const middle = (node) => { const box = node.getBoundingClientRect(); return box.x + box.width / 2; };
            return [parseFloat(row.querySelector('.number').textContent),
                    middle(row.querySelector('circle')) - middle(row.querySelector('.zero'))];
        })"""
    )
    assert len(rows) == 45
    scale = next(place / value for value, place in rows if abs(value) > 10)
    assert scale > 0
    assert all(abs(place - scale * value) < 1 for value, place in rows)
