"""The stratified draw, whatever the rows, the number and the seed."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from k2_verifier_adapter.core.sampling import draw_stratified

DECISIONS = st.dictionaries(st.integers(1, 10**6), st.booleans(), min_size=1, max_size=60)
SEEDS = st.integers(-(2**70), 2**70)


@given(DECISIONS, st.integers(1, 70), SEEDS)
def test_the_draw_has_its_size_and_the_share_of_calls(
    decisions: dict[int, bool], size: int, seed: int
) -> None:
    """So many rows as asked for are drawn; the calls among them are the share, to within half a row."""
    drawn = draw_stratified(decisions, size, seed)
    size = min(size, len(decisions))
    assert len(drawn) == size
    assert drawn <= decisions.keys()
    calls, kinds = sum(decisions[number] for number in drawn), set(decisions.values())
    share = Fraction(size * sum(decisions.values()), len(decisions))
    if len(kinds) == 2 and size >= 2:
        assert {decisions[number] for number in drawn} == kinds
        # A kind that is rarer than one row in the sample has one row all the same.
        share = min(max(share, Fraction(1)), Fraction(size - 1))
    assert abs(calls - share) <= Fraction(1, 2)


@given(DECISIONS, st.integers(1, 70), st.integers(1, 70), SEEDS)
def test_a_larger_draw_holds_a_smaller_one(
    decisions: dict[int, bool], one: int, other: int, seed: int
) -> None:
    """Of the same seed, the rows of any limit are among those of any higher one."""
    small, large = sorted((one, other))
    assert draw_stratified(decisions, small, seed) <= draw_stratified(decisions, large, seed)


@given(st.data(), DECISIONS, st.integers(1, 70), SEEDS)
def test_the_order_of_the_rows_does_not_matter(
    data: st.DataObject, decisions: dict[int, bool], size: int, seed: int
) -> None:
    """Rows that are listed in another order give the same draw."""
    other = dict(data.draw(st.permutations(list(decisions.items()))))
    assert draw_stratified(other, size, seed) == draw_stratified(decisions, size, seed)
