"""A histogram counts every value once, in the first bucket that holds it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.rules.histogram import Histogram


def test_a_bound_belongs_to_its_bucket_and_the_last_one_holds_everything() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 3.0):
        histogram.observe(value)
    assert list(histogram.cumulative()) == [(1.0, 2), (2.0, 3), (math.inf, 4)]
    assert histogram.sum == 6.0


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_each_bound_has_the_values_that_do_not_exceed_it(values: list[float]) -> None:
    histogram = Histogram((0.1, 1.0, 10.0))
    for value in values:
        histogram.observe(value)
    assert list(histogram.cumulative()) == [
        (bound, sum(value <= bound for value in values)) for bound in (0.1, 1.0, 10.0, math.inf)
    ]


def test_bounds_have_to_grow() -> None:
    with pytest.raises(ValueError, match="have to grow"):
        Histogram((1.0, 1.0))
