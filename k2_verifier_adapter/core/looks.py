"""The looks of a run that stops when it is decided, judged as they are reached, however the answers come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from k2_verifier_adapter.core.cases import Case
from k2_verifier_adapter.core.forecast import of_checks
from k2_verifier_adapter.core.judged import Item
from k2_verifier_adapter.core.run_facts import RunFacts, StoppingRule
from k2_verifier_adapter.core.sampling import in_stratified_order
from k2_verifier_adapter.core.statistics.sequential import Follower
from k2_verifier_adapter.core.summary import Summary, summarize
from k2_verifier_adapter.core.verdict import Status


class Looks:
    """Follows the answers to one subset, judges it at every look, and says when it is decided.

    A look says what the report of a run that ended there says, because it is made in the same way. What
    has been judged depends on the answers alone: a run that was killed comes to the same looks again.

    Attributes:
        rule: The rule, with the last look that was judged.
        settled: Whether all checks that are applied have passed, or one failed.
    """

    def __init__(self, facts: RunFacts, rule: StoppingRule, cases: Sequence[Case]) -> None:
        """Begin before the first look.

        Args:
            facts: What is known of the run.
            rule: When it is looked at.
            cases: All cases that may be asked.
        """
        self.rule = replace(rule, look=None)
        self.settled = False
        self._facts = facts
        self._cases = cases
        self._items: dict[int, list[Item]] = {}
        order = [case.index for case in in_stratified_order(cases, rule.seed)]
        self._follower = Follower(rule.design, order)
        self._summary: Summary | None = None

    def add(self, item: Item) -> bool:
        """Take in what became of a request, a failed one included; tell whether a look was judged."""
        items = self._items.setdefault(item.case_index, [])
        items.append(item)
        if self.settled or len(items) < self._facts.repeats:
            return False
        reached = self._follower.finish(item.case_index)
        for look in reached:
            self._judge(look)
            if self.settled:
                break
        return bool(reached)

    @property
    def decided(self) -> bool:
        """Whether nothing more is to be asked: it is settled, or no look is left."""
        return self.settled or self.rule.look == len(self.rule.design.looks) - 1

    def _judge(self, look: int) -> None:
        self.rule = replace(self.rule, look=look)
        items = [item for case in self._follower.cases_of(look) for item in self._items[case]]
        self._summary = summarize(self._ended(self._facts), self._cases, items)
        self.settled = self._summary.verdict.status in {Status.PASS, Status.FAIL}

    def _ended(self, facts: RunFacts) -> RunFacts:
        return replace(facts, complete=True, planned=self.rule.cases * facts.repeats, stopping=self.rule)

    def facts_of(self, facts: RunFacts) -> RunFacts:
        """Add to the facts of a run what was judged of it."""
        return self._ended(facts) if facts.complete else replace(facts, stopping=self.rule)

    def __str__(self) -> str:
        """Say in a few words, for a narrow terminal, what is decided and how it will probably go on."""
        if self._summary is None or self.rule.look is None:
            return "no look yet"
        said = f"look {self.rule.look + 1} of {len(self.rule.design.looks)}: "
        if self.decided:
            return said + self._summary.verdict.status.value
        checks = [check for check in self._summary.verdict.checks if check.applied]
        said += f"{sum(check.settled for check in checks)} of {len(checks)} checks decided"
        found = of_checks(checks, self.rule.cases, self.rule.design)
        if found is None:
            return said
        return f"{said}, end ~{found.cases:,.0f} (pass {found.passing:.0%}, fail {found.failing:.0%})"
