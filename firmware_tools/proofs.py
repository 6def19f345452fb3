"""Proofs as jobs."""

from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial

from firmware_tools.jobs import code
from firmware_tools.jobs.job import JSON
from hw.cache import key
from tb.formal import prover
from tb.formal.harness import Proof
from tb.formal.proofs import PROOFS
from tb.formal.prover import Mutant, Outcome, Prover, Run


@dataclass(frozen=True)
class Proving:
    """A job: a proof, and mutants of its block.

    Attributes
    ----------
    name : str
        Of the proof.
    n_mutants : int
    """

    name: str
    n_mutants: int

    @property
    def proof(self) -> Proof:
        """What is proved."""
        return PROOFS[self.name]

    @cached_property
    def key(self) -> str:
        """The proof's parameters, the modules that state it, and the RTL that they import."""
        state = self.proof.state
        own = state.func if isinstance(state, partial) else state
        content = code.digest((prover.__name__, own.__module__), alone=(__name__,))
        one = self.proof
        parameters = (one.depth, one.reach, one.bounded, one.engine, one.seed, one.broken)
        return key("prove", content, self.name, repr(parameters), str(self.n_mutants))

    def keeps(self, result: JSON) -> bool:
        """Whether it holds."""
        return self.found(result, 0.0)[0].passed

    def run(self) -> JSON:
        """Runs, covers and mutants, without times."""
        proving = Prover(self.proof)
        outcome = proving.prove()
        mutants = list(proving.mutants(self.n_mutants)) if self.n_mutants else []
        runs = [outcome.prove, outcome.cover, *(mutant.run for mutant in mutants)]
        return {
            "runs": [asdict(replace(run, seconds=0.0)) for run in runs],
            "covers": outcome.covers,
            "mutants": [mutant.command for mutant in mutants],
        }

    def found(self, result: JSON, seconds: float) -> tuple[Outcome, list[Mutant]]:
        """What `run` has found, and how long that took."""
        prove, cover, *broken = (Run(**run) for run in result["runs"])
        prove = replace(prove, seconds=round(seconds, 1))
        outcome = Outcome(self.proof, prove, cover, result["covers"])
        commands = result["mutants"]
        return outcome, [Mutant(*pair) for pair in zip(commands, broken, strict=True)]
