"""Runs mutants under benches and keeps what came out, so that a run can be continued."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from firmware_tools.mutation import equivalence
from firmware_tools.mutation.mutants import Mutant, digest, verilog
from firmware_tools.mutation.targets import TARGETS, Bench, Target
from tb import simulator
from tb.simulator import BenchFailure

CAUGHT, HUNG, SURVIVED, EQUIVALENT = "caught", "hung", "survived", "equivalent"
"""Outcomes; who hangs is caught as well, who is equivalent was proved to be so."""
EXPLANATIONS = Path(__file__).parent / "survivors.json"
MARGIN, SPARE_CLOCKS = 2, 20_000
"""A bench that takes so many times the clocks that it takes without a mutant, and some, hangs."""
MOST_SECONDS = 3600
"""Clocks that stand still."""
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
        """Everything, ready for JSON."""
        mutant = {"label": self.mutant.label, "name": self.mutant.name, **asdict(self.mutant)}
        return {**asdict(self), "mutant": mutant, "reason": self.reason}


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


class Campaign:
    """Mutants, their simulators and the outcomes that are known.

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
        self._folder.mkdir(exist_ok=True)
        self._simulators: dict[tuple[str, str], Path] = {}

    def known(self) -> dict[str, Outcome]:
        """Outcomes of earlier runs by the mutant's label; later ones replace earlier ones."""
        results = self._folder / "results.jsonl"
        mutants = {mutant.label: mutant for mutant in self._mutants}
        outcomes = {}
        for line in results.read_text().splitlines() if results.exists() else ():
            entry = json.loads(line)
            label = entry.pop("label")
            outcomes[label] = Outcome(mutants[label], **entry)
        return outcomes

    def simulator(self, target: Target, bench: str) -> Path:
        """Build the simulator that holds all mutants of a design, unless it is there."""
        key = target.name, target.design_of(Bench(bench)).name
        if key not in self._simulators:
            own = [mutant for mutant in self._mutants if mutant.design == target.name]
            mutated = verilog(target, own, self._designs / target.name)
            design = target.simulator(Bench(bench), mutated, digest(own))
            self._simulators[key] = simulator.build(design)
        return self._simulators[key]

    def needed(self, todo: Sequence[Mutant]) -> list[tuple[str, str]]:
        """Designs and benches that have to be prepared for mutants."""
        return list(dict.fromkeys((m.design, bench) for m in todo for bench in self._benches(m)))

    def prepare(self, design: str, bench: str) -> None:
        """Build what a bench needs, and see that it passes as long as all mutants sleep.

        Raises
        ------
        BenchFailure
            It does not pass.
        """
        folder = self.simulator(self._targets[design], bench)
        if self._baseline(folder, bench).exists():
            return
        failure = self._run(folder, bench, 0)
        if failure:
            raise BenchFailure(f"{bench} must pass on {design} without a mutant: {failure}")
        clocks = self._clocks_file(folder, bench, 0).read_text().split()
        self._baseline(folder, bench).write_text(str(max(map(int, clocks))))

    def run(self, todo: Sequence[Mutant], jobs: int) -> Iterator[Outcome]:
        """Outcomes as they come; each one is kept. All that is `needed` must be prepared."""
        with ThreadPoolExecutor(jobs) as executor:
            futures = [executor.submit(self._outcome, mutant) for mutant in todo]
            try:
                for future in as_completed(futures):
                    yield self._kept(future.result())
            finally:
                executor.shutdown(cancel_futures=True)

    def _kept(self, outcome: Outcome) -> Outcome:
        entry: dict[str, object] = {"label": outcome.mutant.label}
        entry |= {name: getattr(outcome, name) for name in ("outcome", "bench", "failure")}
        with (self._folder / "results.jsonl").open("a") as file:
            file.write(json.dumps({**entry, "seconds": round(outcome.seconds, 1)}) + "\n")
        return outcome

    def _outcome(self, mutant: Mutant) -> Outcome:
        begin = time.perf_counter()
        for bench in self._benches(mutant):
            folder = self.simulator(self._targets[mutant.design], bench)
            failure = self._run(folder, bench, mutant.number)
            if failure:
                outcome = HUNG if failure == HUNG else CAUGHT
                return Outcome(mutant, outcome, bench, failure, time.perf_counter() - begin)
        proved = equivalence.is_equivalent(mutant, self._designs / mutant.design)
        outcome = EQUIVALENT if proved else SURVIVED
        return Outcome(mutant, outcome, seconds=time.perf_counter() - begin)

    def environment(self, folder: Path, bench: str, number: int) -> dict[str, str]:
        """What makes a bench run under a mutant; it stops at the first failure."""
        baseline = self._baseline(folder, bench)
        limit = MARGIN * int(baseline.read_text()) + SPARE_CLOCKS if baseline.exists() else 0
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
        return self._folder / folder.name / f"{bench}.clocks"


def _short(failure: str) -> str:
    """The test that failed, if a directed bench tells, or the first line, if any."""
    test = FAILED_TEST.search(failure)
    return test[1] if test else failure.partition("\n")[0]
