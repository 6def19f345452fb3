"""The proofs: each holds, reaches its covers, and fails on broken RTL.

All of it is long; `make formal` proves the same, with progress.
"""

import pytest

from tb.formal.proofs import PROOFS
from tb.formal.prover import Prover

N_MUTANTS = 2


@pytest.mark.full
@pytest.mark.parametrize("name", PROOFS)
def test_proof(name: str) -> None:
    """It holds and is not vacuous."""
    outcome = Prover(PROOFS[name]).prove()
    assert outcome.passed, outcome.reason
    assert outcome.covers


@pytest.mark.full
@pytest.mark.parametrize("name", PROOFS)
def test_mutants(name: str) -> None:
    """It fails on a mutant; others may change nothing that it speaks of."""
    mutants = list(Prover(PROOFS[name]).mutants(N_MUTANTS))
    survivors = [mutant.command for mutant in mutants if not mutant.refuted]
    assert len(survivors) < N_MUTANTS, survivors
