"""Runs mutants under benches and keeps what came out, so that a run can be continued."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from firmware_tools.jobs import code
from firmware_tools.jobs.campaign import results
from firmware_tools.jobs.job import JSON, Executor
from firmware_tools.jobs.store import Store
from firmware_tools.mutation import equivalence
from firmware_tools.mutation.mutants import Mutant, digest, verilog
from firmware_tools.mutation.targets import TARGETS, Bench, Target
from hw.cache import cached, key
from tb import simulator
from tb.simulator import BenchFailure

CAUGHT, HUNG, SURVIVED, EQUIVALENT = "caught", "hung", "survived", "equivalent"
"""Outcomes; who hangs is caught as well, who is equivalent was proved to be so."""
EXPLANATIONS = Path(__file__).parent / "survivors.json"
MARGIN, SPARE_CLOCKS = 2, 20_000
"""A bench that takes so many times the clocks that it takes without a mutant, and some, hangs."""
MOST_SECONDS = 3600
"""Clocks that stand still."""
CODE = ("firmware_tools.mutation.bench", "firmware_tools.mutation.equivalence")
"""What decides the outcome of a mutant."""
FAILED_TEST = re.compile(r"\*\* (\S+)\s+FAIL")


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant.

    Attributes
    ----------
    mutant : Mutant
    outcome : str
    bench : str
        Who caught it.
    failure : str
        The test that failed, or the first difference.
    seconds : float
    """

    mutant: Mutant
    outcome: str
    bench: str = ""
    failure: str = ""
    seconds: float = 0.0

    @property
    def is_caught(self) -> bool:
        """Whether a bench noticed."""
        return self.outcome in {CAUGHT, HUNG}

    @property
    def reason(self) -> str:
        """Why nothing can catch a survivor, if somebody explained that for exactly this RTL."""
        if self.outcome != SURVIVED:
            return ""
        return explanations().get((self.mutant.name, self.mutant.fingerprint), "")

    def as_json(self) -> dict[str, object]:
        """Everything but the time, ready for JSON: the same wherever the mutant ran."""
        mutant = {"label": self.mutant.label, "name": self.mutant.name, **asdict(self.mutant)}
        found = {name: getattr(self, name) for name in ("outcome", "bench", "failure")}
        return {"mutant": mutant, **found, "reason": self.reason}


@dataclass(frozen=True)
class Score:
    """Figures of some mutants.

    Attributes
    ----------
    mutants, caught, hung, equivalent, explained, survived : int
        `hung` are among `caught`; of those that no bench caught `equivalent` were proved to be,
        `explained` have a reason, and `survived` are the others.
    """

    mutants: int
    caught: int
    hung: int
    equivalent: int
    explained: int

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> "Score":
        """Count."""
        return cls(
            mutants=len(outcomes),
            caught=sum(o.is_caught for o in outcomes),
            hung=sum(o.outcome == HUNG for o in outcomes),
            equivalent=sum(o.outcome == EQUIVALENT for o in outcomes),
            explained=sum(bool(o.reason) for o in outcomes),
        )

    @property
    def survived(self) -> int:
        """Nobody knows why."""
        return self.mutants - self.caught - self.equivalent - self.explained

    @property
    def share(self) -> float:
        """Caught of those that can be caught."""
        catchable = self.caught + self.survived
        return self.caught / catchable if catchable else 1.0

    def as_json(self) -> dict[str, object]:
        """Everything, ready for JSON."""
        return {**asdict(self), "survived": self.survived, "share": self.share}


@lru_cache
def explanations() -> dict[tuple[str, str], str]:
    """Reasons for survivors by name and fingerprint."""
    entries = json.loads(EXPLANATIONS.read_text())
    return {(e["mutant"], e["fingerprint"]): e["reason"] for e in entries}


@dataclass(frozen=True)
class Trial:
    """A job: a mutant under its benches.

    Attributes
    ----------
    campaign : callable
        Makes the `Campaign`, wherever the job runs.
    mutant : Mutant
    benches : tuple of str
        Those that see it.
    """

    campaign: "Callable[[], Campaign]"
    mutant: Mutant
    benches: tuple[str, ...]

    @cached_property
    def key(self) -> str:
        """The mutant, the RTL around it, its benches and all code."""
        content = code.digest(CODE, alone=(__name__,), without=("firmware_tools.jobs",))
        parts = [self.mutant.design, self.mutant.name, self.mutant.fingerprint, *self.benches]
        return key("mutate", content, *parts)

    def keeps(self, _result: JSON) -> bool:
        """Whatever became of it, it will again."""
        return True

    def run(self) -> JSON:
        """Outcome, bench and failure."""
        found = self.campaign().outcome(self.mutant)
        return {"outcome": found.outcome, "bench": found.bench, "failure": found.failure}


class Campaign:
    """Mutants and their simulators.

    Parameters
    ----------
    folder : Path
        Where `draw` left the designs; keeps everything.
    mutants : sequence of Mutant
    targets : mapping, optional
        The designs by name.
    """

    def __init__(
        self, folder: Path, mutants: Sequence[Mutant], targets: Mapping[str, Target] = TARGETS
    ) -> None:
        self._designs = folder.absolute()
        self._mutants = mutants
        self._targets = targets
        self._folder = self._designs / digest(mutants)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._simulators: dict[tuple[str, str], Path] = {}

    def build(self, design: str, bench: str) -> Path:
        """Build the simulator that holds all mutants of a design, unless it is there."""
        target = self._targets[design]
        names = design, target.design_of(Bench(bench)).name
        if names not in self._simulators:
            own = [mutant for mutant in self._mutants if mutant.design == design]
            mutated = verilog(target, own, target.prepared(self._designs))
            simulated = target.simulator(Bench(bench), mutated, digest(own))
            self._simulators[names] = simulator.build(simulated)
        return self._simulators[names]

    def needed(self, todo: Sequence[Mutant]) -> list[tuple[str, str]]:
        """Designs and benches of mutants."""
        return list(dict.fromkeys((m.design, bench) for m in todo for bench in self._benches(m)))

    def prepare(self, design: str, bench: str) -> Path:
        """Build what a bench needs, and see that it passes as long as all mutants sleep.

        Raises
        ------
        BenchFailure
            It does not pass.
        """
        folder = self.build(design, bench)

        def work(baseline: Path) -> None:
            failure = self._run(folder, bench, 0)
            if failure:
                raise BenchFailure(f"{bench} must pass on {design} without a mutant: {failure}")
            clocks = self._clocks_file(folder, bench, 0).read_text().split()
            (baseline / "clocks").write_text(str(max(map(int, clocks))))

        cached(self._baseline(folder, bench), work)
        return folder

    def trials(
        self, todo: Sequence[Mutant], again: "Callable[[], Campaign] | None" = None
    ) -> list[Trial]:
        """Jobs; `again` makes this campaign in another process."""
        campaign = again or (lambda: self)
        return [Trial(campaign, mutant, self._benches(mutant)) for mutant in todo]

    def outcome(self, mutant: Mutant) -> Outcome:
        """Run the benches of a mutant until one notices, or else try to prove that none can."""
        for bench in self._benches(mutant):
            folder = self.prepare(mutant.design, bench)
            failure = self._run(folder, bench, mutant.number)
            if failure:
                return Outcome(mutant, HUNG if failure == HUNG else CAUGHT, bench, failure)
        ready = self._targets[mutant.design].prepared(self._designs)
        proved = equivalence.is_equivalent(mutant, ready)
        return Outcome(mutant, EQUIVALENT if proved else SURVIVED)

    def environment(self, folder: Path, bench: str, number: int) -> dict[str, str]:
        """What makes a bench run under a mutant; it stops at the first failure."""
        baseline = self._baseline(folder, bench)
        known = (baseline / "clocks").exists()
        limit = MARGIN * int((baseline / "clocks").read_text()) + SPARE_CLOCKS if known else 0
        clocks = self._clocks_file(folder, bench, number)
        return {
            simulator.STAND_IN: str(folder),
            simulator.PLUSARGS: f"+mutant={number} +most_clocks={limit} +clocks_file={clocks}",
            "COCOTB_MAX_FAILURES": "1",
        }

    def _benches(self, mutant: Mutant) -> tuple[str, ...]:
        return self._targets[mutant.design].bench_names(mutant.module)

    def _run(self, folder: Path, bench: str, number: int) -> str:
        """Run a bench; returns how it failed, or an empty text."""
        clocks = self._clocks_file(folder, bench, number)
        clocks.parent.mkdir(parents=True, exist_ok=True)
        clocks.write_text("0\n")
        try:
            done = subprocess.run(
                [sys.executable, "-m", "firmware_tools.mutation.bench", bench, Bench(bench).config],
                check=False,
                cwd=clocks.parent,
                env={**os.environ, **self.environment(folder, bench, number)},
                capture_output=True,
                text=True,
                timeout=MOST_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return HUNG
        if HUNG in clocks.read_text().split():
            return HUNG
        if done.returncode and not done.stdout:
            raise BenchFailure(f"{bench}, mutant {number}: {done.stderr.strip()}")
        return _short(done.stdout)

    def _clocks_file(self, folder: Path, bench: str, number: int) -> Path:
        return self._folder / folder.name / f"{bench}-{number}" / "clocks"

    def _baseline(self, folder: Path, bench: str) -> Path:
        return self._folder / folder.name / f"{bench}-baseline"


def outcomes(
    trials: Sequence[Trial], executor: Executor, store: Store | None = None
) -> Iterator[Outcome]:
    """Outcomes as they come, those that are known first."""
    for done in results(trials, executor, store):
        yield Outcome(done.job.mutant, **done.result, seconds=done.seconds)


def _short(failure: str) -> str:
    """The test that failed, if a directed bench tells, or the first line, if any."""
    test = FAILED_TEST.search(failure)
    return test[1] if test else failure.partition("\n")[0]
