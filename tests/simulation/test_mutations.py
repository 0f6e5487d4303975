"""Every invariant bites: with a fault in the product, some world goes wrong, and says how (docs/simulation.md)."""

from __future__ import annotations

import pytest

from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.runner import run_range


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name.replace(" ", "-"))
def test_a_fault_in_the_product_is_noticed(mutation: Mutation) -> None:
    verdicts = run_range(mutation.seeds[0], mutation.seeds[-1], workers=1, change=mutation.make)
    problem = next((verdict.problems[0] for verdict in verdicts if verdict.problems), None)
    assert problem is not None, f"no world of seeds {mutation.seeds} went wrong"
    assert problem.split()[0] in mutation.noticed_by, problem
