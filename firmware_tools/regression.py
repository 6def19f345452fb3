"""Directed benches and random networks on the RTL: what to run, how it went, JUnit."""

import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from firmware_tools import rtl
from firmware_tools.backends import simulate
from firmware_tools.difference import first_difference
from firmware_tools.lockstep import Agreement, lockstep
from model.config import ChipConfig
from model.npu.config import NPUConfig
from model.npu.network import Network
from model.npu.random_network import random_network
from model.npu.trace import Trace
from tb import benches
from tb.cosim import chip
from tb.simulator import BenchFailure, BuildError, Design

RANDOM = "random"
"""What random networks are called among the names of the directed benches."""
FREE_STREAM_RATE = 0.25
"""Share of random networks whose spike stream is never paused: only those show our own stalls."""
PAUSES = (0.05, 0.9)


@dataclass(frozen=True)
class Case:
    """Something to run.

    Attributes
    ----------
    name : str
        A directed bench, or `random`.
    config : NPUConfig
    seed : int
        Decides everything that is random in it.
    """

    name: str
    config: NPUConfig
    seed: int

    @property
    def command(self) -> str:
        """Runs this case alone."""
        words = ["-c", self.config.name, "--only", self.name, "--seed", str(self.seed)]
        return shlex.join(
            ["kenyon", "regress", *words, *(["--count", "1"] if self.name == RANDOM else [])]
        )

    def __str__(self) -> str:
        return f"{self.name}[{self.config.name}, seed {self.seed}]"


@dataclass(frozen=True)
class Outcome:
    """How a case went; `failure` is empty if it passed."""

    case: Case
    failure: str
    seconds: float = 0.0
    steps: int = 0
    values: int = 0
    clocks: int = 0

    def as_json(self) -> dict[str, object]:
        """Everything, ready for JSON."""
        return {
            "name": self.case.name,
            "configuration": self.case.config.name,
            "seed": self.case.seed,
            "command": self.case.command,
            "passed": not self.failure,
            "failure": self.failure,
            "seconds": self.seconds,
            "steps": self.steps,
            "values": self.values,
            "clocks": self.clocks,
        }


def names() -> list[str]:
    """What a regression can consist of."""
    return [*benches.BENCHES, RANDOM]


def cases(configs: list[NPUConfig], only: list[str], seed: int, count: int) -> list[Case]:
    """Directed benches, those of single blocks once, and `count` random networks in turn.

    The k-th random network has seed `seed + k`, so each can be run alone.
    """
    result = []
    for name, bench in benches.BENCHES.items():
        if name in only:
            on = configs if bench.on_chip else configs[:1]
            result += [Case(name, config, seed) for config in on]
    if RANDOM in only:
        result += [Case(RANDOM, configs[k % len(configs)], seed + k) for k in range(count)]
    return result


def design(case: Case) -> Design:
    """What the case runs on; it is to be built before `Regression.run`."""
    if case.name == RANDOM:
        return chip(ChipConfig.alone(case.config))
    return benches.design(benches.BENCHES[case.name], ChipConfig.alone(case.config))


def random_case(case: Case) -> tuple[Network, float]:
    """Network of a random case, and the probability of a pause of its spike stream."""
    rng = np.random.default_rng(case.seed)
    network = random_network(rng, case.config)
    return network, 0.0 if rng.random() < FREE_STREAM_RATE else rng.uniform(*PAUSES)


class Regression:
    """Runs cases.

    Parameters
    ----------
    folder : Path
        Where logs and waves go, a folder for every case.
    waves : bool
        Whether to write waves.
    """

    def __init__(self, folder: Path, *, waves: bool) -> None:
        self._folder = folder.absolute()
        self._waves = waves

    def run(self, todo: list[Case], jobs: int) -> Iterator[Outcome]:
        """Outcomes as they come. Simulators are child processes, so threads fill the cores."""
        with ThreadPoolExecutor(jobs) as executor:
            futures = [executor.submit(self._outcome, case) for case in todo]
            try:
                for future in as_completed(futures):
                    yield future.result()
            finally:
                executor.shutdown(cancel_futures=True)

    def _outcome(self, case: Case) -> Outcome:
        begin = time.perf_counter()
        try:
            outcome = self._random(case) if case.name == RANDOM else self._bench(case)
        except (BenchFailure, BuildError) as failure:
            outcome = Outcome(case, str(failure))
        return replace(outcome, seconds=time.perf_counter() - begin)

    def _results(self, case: Case) -> Path:
        folder = self._folder / f"{case.config.name}-{case.name}-{case.seed}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _bench(self, case: Case) -> Outcome:
        chip = ChipConfig.alone(case.config)
        benches.run(case.name, chip, self._results(case), seed=case.seed, waves=self._waves)
        return Outcome(case, "")

    def _random(self, case: Case) -> Outcome:
        network, pause = random_case(case)
        waves = self._results(case) / "waves.vcd" if self._waves else None
        traces = rtl.simulate(network, case.config, seed=case.seed, pause=pause, waves=waves)
        equal: list[Trace] = []
        result = lockstep(network, case.config, traces, on_equal=equal.append)
        if not isinstance(result, Agreement):
            return Outcome(case, f"RTL: {result}")
        fast = Trace.join(list(simulate(network, "fast", case.config)))
        difference = first_difference(network, Trace.join(equal), fast)
        failure = f"fast engine: {difference}" if difference else ""
        return Outcome(case, failure, 0.0, result.steps, result.values, result.clocks)


def junit(outcomes: list[Outcome]) -> str:
    """The outcomes as JUnit XML."""
    suite = ET.Element(
        "testsuite",
        name="kenyon regress",
        tests=str(len(outcomes)),
        failures=str(sum(bool(outcome.failure) for outcome in outcomes)),
        time=f"{sum(outcome.seconds for outcome in outcomes):.3f}",
    )
    for outcome in outcomes:
        case = outcome.case
        element = ET.SubElement(
            suite,
            "testcase",
            classname=case.config.name,
            name=f"{case.name}-{case.seed}",
            time=f"{outcome.seconds:.3f}",
        )
        if outcome.failure:
            failure = ET.SubElement(element, "failure", message=outcome.failure.splitlines()[0])
            failure.text = f"{outcome.failure}\n{case.command}"
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
