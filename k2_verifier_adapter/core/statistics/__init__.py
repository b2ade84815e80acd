"""Intervals and the sums that they are made of."""
