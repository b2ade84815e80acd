"""Comparisons to report on: small ones of stored runs, a large one, and one full of hostile texts."""

from collections import Counter
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from random import Random

from markdown_it import MarkdownIt
from unit.stored_runs import (
    FACTS,
    SUBSET,
    answering,
    calling,
    failed,
    make_cases,
    make_facts,
    make_row,
    write_run,
)

from k2_verifier_adapter.core.comparison.compare import Participant, compare
from k2_verifier_adapter.core.comparison.pairs import CaseOutcome
from k2_verifier_adapter.core.judging.judge import judge
from k2_verifier_adapter.core.observed import Observed
from k2_verifier_adapter.core.presets import preset_for
from k2_verifier_adapter.core.responses import read_completion
from k2_verifier_adapter.core.run_facts import RowsInfo
from k2_verifier_adapter.core.summary import build_summary
from k2_verifier_adapter.core.tally import Tally
from k2_verifier_adapter.offline.participants import participants_of_run

TRUNCATED = '{"city": '


def rows_of(count):
    """Make rows; the official API calls in every other one."""
    return [make_row(f"question {number}", call=number % 2 == 0) for number in range(count)]


def answers_of(count, *, wrong=0, broken=0):
    """Answer as the official API; the first `wrong` decisions are others, the last `broken` calls break off."""
    calls = [(number % 2 == 0) != (number < wrong) for number in range(count)]
    texts = ['{"city": "Oslo"}'] * (count - broken) + [TRUNCATED] * broken
    return [calling(text) if call else answering() for call, text in zip(calls, texts, strict=True)]


def participant(folder, answers, failures=(), **changes):
    """Write a run and read it as a participant."""
    rows = changes.pop("rows", None) or rows_of(len(answers))
    (found,) = participants_of_run(write_run(folder, rows, answers, failures, **changes))
    return found


def varied(folder):
    """Make comparisons of every sort, by name."""
    good = participant(folder / "good", answers_of(40))
    bad = participant(folder / "bad", answers_of(40, wrong=9, broken=8), endpoint_host="b.example.com")
    lost = [None] * 4 + answers_of(40, wrong=12)[4:]
    flaky = participant(
        folder / "flaky",
        lost,
        [failed(number) for number in range(4)],
        parameters={**FACTS.parameters, "stream": False, "stop": ["x"]},
        complete=False,
        finished_at=None,
    )
    quiet = [make_row(f"question {number}", call=False) for number in range(3)]
    silent = [participant(folder / name, answers_of(6)[1::2], rows=quiet) for name in ("quiet", "still")]
    none = [participant(folder / name, [None] * 3, [failed(0), failed(1), failed(2)]) for name in "xy"]
    synthetic = RowsInfo("bundled", "00", synthetic=True)
    shown = [participant(folder / name, answers_of(8), rows_info=synthetic) for name in "vw"]
    return {
        "two": compare([good, bad]),
        "three": compare([good, bad, flaky]),
        "alike": compare([good, good]),
        "undefined": compare(silent),
        "failed": compare(none),
        "synthetic": compare(shown),
        "failing first": compare([flaky, good]),
    }


@cache
def _judged(should_call):
    """Judge a right, a wrong and a broken answer to one case."""
    (case,) = make_cases([make_row(call=should_call)])
    kinds = [calling(), answering(), calling(TRUNCATED)]
    right, wrong, broken = kinds if should_call else (kinds[1], kinds[0], kinds[2])
    return [judge(case, read_completion(answer)) for answer in (right, wrong, broken)]


def crowd(runs, cases, *, text="", settings=1, first_case=0):
    """Compare many runs over many cases, of which a part differs; a text stands wherever one can.

    As many settings as told differ between all runs.
    """
    taken = []
    for run in range(runs):
        chance = Random(run)
        outcomes = {}
        for case in range(first_case, first_case + cases):
            kinds = _judged(case % 2 == 0)
            (answer,) = chance.choices(kinds, [1 - 0.06 * (run % 10), 0.05, 0.01 + 0.05 * (run % 10)])
            outcomes[case] = CaseOutcome(case, None, case % 2 == 0, [answer])
        label = f"{text}kimi{text}" if text else "kimi"
        facts = make_facts(
            cases,
            model=label,
            subset=f"s{text}" if text else "k2_thinking",
            endpoint_host=f"h{text}{run}",
            parameters={
                "stream": run % 2 == 0,
                **{f"p{text}{number or ''}": [text, run] for number in range(settings)},
            },
            standard=preset_for(SUBSET).standard,
        )
        summary = build_summary(facts, Tally(), Observed(), {})
        if text:
            observed = replace(summary.observed, providers=Counter({text: 1}), models=Counter({text: 2}))
            summary = replace(summary, observed=observed, warnings=(text, f"w{text}{run}"))
        taken.append(Participant(label, f"{text}runs/{run}", summary, outcomes))
    return compare(taken)


class _Cells(HTMLParser):
    """The words of a page; cells stand apart."""

    def __init__(self, text):
        super().__init__()
        self.found, self.tags, self.skipped = [], [], False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        """Note a tag; what is inside a style sheet is no text."""
        self.tags.append((tag, dict(attrs)))
        self.skipped = tag == "style"
        self.found.append(" " if tag not in ("b", "span", "wbr") else "")

    def handle_endtag(self, tag):
        """Leave the style sheet."""
        self.skipped = False

    def handle_data(self, data):
        """Note a text."""
        if not self.skipped:
            self.found.append(data)


def words_of_html(text):
    """Give what a page says, with single spaces."""
    return " ".join("".join(_Cells(text).found).split())


def tags_of_html(text):
    """List the tags of a page with their attributes."""
    return _Cells(text).tags


PARSER = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough")
_WORDS = ("text", "text_special")


def _tokens(text):
    for token in PARSER.parse(text):
        yield token
        yield from token.children or []


def structure_of_markdown(text):
    """List everything but the words."""
    return [(token.type, token.tag, token.attrs) for token in _tokens(text) if token.type not in _WORDS]


def words_of_markdown(text):
    """Give what a reader sees, with single spaces, without the invisible joiners."""
    words = "".join(token.content if token.type in _WORDS else " " for token in _tokens(text))
    return " ".join(words.replace("\u2060", "").split())
