"""Directed benches and random networks on the RTL: what to run, how it went, JUnit."""

import itertools
import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from firmware_tools.jobs import code
from firmware_tools.jobs.campaign import results
from firmware_tools.jobs.job import JSON, Executor
from firmware_tools.jobs.store import Store
from firmware_tools.joint import regression as joint_regression
from firmware_tools.mars import regression as mars_regression
from firmware_tools.mars.regression import BATCH
from firmware_tools.npu import rtl
from firmware_tools.npu.backends import simulate
from firmware_tools.npu.difference import first_difference
from firmware_tools.npu.lockstep import Agreement, lockstep, moment_of
from firmware_tools.waves import write_views
from hw.cache import key
from model.config import ChipConfig
from model.mars.config import MarsConfig
from model.npu.config import NPUConfig
from model.npu.network import Network
from model.npu.random_network import random_network
from model.npu.trace import Trace
from tb import benches, simulator
from tb.benches import Bench
from tb.cosim import Recording, chip
from tb.mars.cosim import system
from tb.simulator import BenchFailure, BuildError, Design, Waves
from tb.waves import Moment

RANDOM = "random"
"""What random networks of the NPU are called among the names of the directed benches."""
QUANTISED, QUANTISED_RTL = "quantised", "quantised-rtl"
SPIKING, SPIKING_RTL = "spiking", "spiking-rtl"
ATTENTION, ATTENTION_RTL = "attention", "attention-rtl"
KINDS = ((QUANTISED_RTL, QUANTISED), (SPIKING_RTL, SPIKING), (ATTENTION_RTL, ATTENTION))
"""Random networks of MARS: on the RTL, and on the golden machine alone."""
ON_RTL = tuple(on_rtl for on_rtl, _ in KINDS)
"""Those of MARS, on the reference and the golden machine, and also on the RTL."""
ON_MODEL = tuple(on_model for _, on_model in KINDS)
"""Those that need no simulator."""
COUNT_ON_ICARUS = 10
"""Random networks of each kind, unless it is told."""
JOINT = "joint"
"""Random pairs of networks with a bridge between them, on chips that have both halves."""
CHIP = "chip"
"""The bench of a whole chip with NPU."""
NPU, MARS = "npu", "mars"
"""Everything of one accelerator."""
COUNTS = {NPU: 20, MARS: 200, JOINT: 20}
"""Random networks of a regression, unless it is told."""
ANY_RANDOM = (RANDOM, *ON_MODEL, *ON_RTL, JOINT)
RTL_SHARE = 0.3
"""Of networks of MARS, if they are not all one or the other."""
Config = NPUConfig | MarsConfig | ChipConfig
"""An accelerator alone, or a chip with both."""
DIRECTED = benches.BENCHES | benches.MARS_BENCHES
FREE_STREAM_RATE = 0.25
"""Share of random networks whose spike stream is never paused: only those show our own stalls."""
PAUSES = (0.05, 0.9)
RANDOM_CODE = (
    "firmware_tools.npu.backends",
    "firmware_tools.npu.difference",
    "firmware_tools.npu.lockstep",
    "model.npu.random_network",
    "tb.cosim",
)
MODEL_CODE = (
    "firmware_tools.mars.pass_difference",
    "model.mars.mapper",
    "model.mars.random_attention",
    "model.mars.random_network",
    "model.mars.random_spiking",
)
"""What computes random networks of the NPU, and those of MARS that no RTL runs."""


@dataclass(frozen=True)
class Case:
    """Something to run.

    Attributes
    ----------
    name : str
        A directed bench, `random`, `quantised`, `spiking`, `attention`, one of these three with
        `-rtl`, or `joint`.
    config : NPUConfig, MarsConfig or ChipConfig
    seed : int
        Decides everything that is random in it.
    """

    name: str
    config: Config
    seed: int

    @property
    def command(self) -> str:
        """Runs this case alone."""
        words = ["-c", self.config.name, "--only", self.name, "--seed", str(self.seed)]
        words += ["--simulator", "icarus"] if simulator.on_icarus() else []
        return shlex.join(
            ["kenyon", "regress", *words, *(["--count", "1"] if self.name in ANY_RANDOM else [])]
        )

    def __str__(self) -> str:
        return f"{self.name}[{self.config.name}, seed {self.seed}]"


@dataclass(frozen=True)
class Outcome:
    """How a case went; `failure` is empty if it passed.

    `again` is the command that shows the failure, if it is not the case's own.
    """

    case: Case
    failure: str
    seconds: float = 0.0
    steps: int = 0
    values: int = 0
    clocks: int = 0
    again: str = ""

    @property
    def command(self) -> str:
        """Shows the failure."""
        return self.again or self.case.command

    def as_json(self) -> dict[str, object]:
        """Everything but the time, ready for JSON: the same wherever the case ran."""
        return {
            "name": self.case.name,
            "configuration": self.case.config.name,
            "seed": self.case.seed,
            "command": self.command,
            "passed": not self.failure,
            "failure": self.failure,
            "steps": self.steps,
            "values": self.values,
            "clocks": self.clocks,
        }


def names() -> dict[str, list[str]]:
    """What a regression can consist of, by accelerator."""
    result: dict[str, list[str]] = {NPU: [], MARS: [], JOINT: [*benches.JOINT_BENCHES, JOINT]}
    for name, bench in DIRECTED.items():
        result[_accelerator(bench)].append(name)
    result[NPU].append(RANDOM)
    result[MARS] += [kind for on_rtl, on_model in KINDS for kind in (on_model, on_rtl)]
    return result


def _accelerator(bench: Bench) -> str:
    return MARS if "tb.mars." in bench.modules else NPU


def cases(configs: Sequence[Config], only: list[str], seed: int, count: int | None) -> list[Case]:
    """Directed benches, those of single blocks once, and random networks in turn.

    The k-th random network has seed `seed + k`, so each can be run alone.

    Parameters
    ----------
    configs : sequence of NPUConfig, MarsConfig or ChipConfig
        What has no configuration here is left out.
    only : list of str
        Of `names`.
    seed : int
    count : int or None
        Random networks for each accelerator, of MARS for each kind; None is `COUNTS`.
    """
    npus = [config for config in configs if isinstance(config, NPUConfig)]
    marses = [config for config in configs if isinstance(config, MarsConfig)]
    joints = [config for config in configs if isinstance(config, ChipConfig)]
    result = []
    for name, bench in DIRECTED.items():
        if name in only:
            own: Sequence[Config] = npus if _accelerator(bench) == NPU else marses
            result += [Case(name, config, seed) for config in (own if bench.on_chip else own[:1])]
    if RANDOM in only and npus:
        n = COUNTS[NPU] if count is None else count
        result += [Case(RANDOM, npus[k % len(npus)], seed + k) for k in range(n)]
    n = COUNTS[MARS] if count is None else count
    for both in KINDS if marses else ():
        kinds = [kind for kind in both if kind in only]
        on_rtl = math.ceil(RTL_SHARE * n) if len(kinds) > 1 else n
        begin = seed
        for kind, share in zip(kinds, (on_rtl, n - on_rtl), strict=False):
            result += _in_batches(kind, marses, begin, share)
            begin += share
    result += [
        Case(name, chip, seed) for name in benches.JOINT_BENCHES if name in only for chip in joints
    ]
    if JOINT in only and joints:
        result += _in_batches(JOINT, joints, seed, COUNTS[JOINT] if count is None else count)
    return result


def _in_batches(kind: str, configs: Sequence[Config], seed: int, n: int) -> list[Case]:
    """Networks of neighbouring seeds are for the same configuration, as one simulation is."""
    size = max(1, min(BATCH, n // len(configs)))
    return [Case(kind, configs[k // size % len(configs)], seed + k) for k in range(n)]


def design(case: Case) -> Design | None:
    """What the case runs on, if it is RTL; it is to be built before `Regression.run`."""
    if isinstance(case.config, ChipConfig):
        return chip(case.config)
    if isinstance(case.config, MarsConfig) and case.name in ANY_RANDOM:
        return system(case.config) if case.name in ON_RTL else None
    if case.name == RANDOM:
        return chip(ChipConfig.alone(case.config))
    return benches.design(DIRECTED[case.name], ChipConfig.alone(case.config))


def random_case(config: NPUConfig, seed: int) -> tuple[Network, float]:
    """A random network of the NPU, and the probability of a pause of its spike stream."""
    rng = np.random.default_rng(seed)
    network = random_network(rng, config)
    return network, 0.0 if rng.random() < FREE_STREAM_RATE else rng.uniform(*PAUSES)


@dataclass(frozen=True)
class Simulation:
    """A job: cases that are one simulation.

    Attributes
    ----------
    cases : tuple of Case
        Of one name and configuration.
    folder : Path
        Where logs and waves go, a folder for every case.
    simulator : str
        Name and content of the RTL, or nothing.
    waves : Waves
        What to write beside them, or nothing.
    """

    cases: tuple[Case, ...]
    folder: Path
    simulator: str = ""
    waves: Waves = ""

    @cached_property
    def key(self) -> str:
        """The cases, what computes them, and the simulator if there is one."""
        case = self.cases[0]
        parts = ["regress", case.name, repr(case.config), _code(case), self.simulator]
        return key(*parts, *(str(one.seed) for one in self.cases))

    def keeps(self, result: JSON) -> bool:
        """Whether all passed."""
        return not any(found["failure"] for found in result)

    def run(self) -> JSON:
        """For each case what failed, how much was compared, and whether a network was drawn."""
        try:
            return [found.as_json() for found in self._run()]
        except (BenchFailure, BuildError) as failure:
            return [Found(str(failure)).as_json() for _ in self.cases]

    def _run(self) -> "list[Found]":
        case = self.cases[0]
        if case.name in DIRECTED or case.name in benches.JOINT_BENCHES:
            return [self._bench(case)]
        if isinstance(case.config, ChipConfig):
            return self._joint(case.config)
        if isinstance(case.config, MarsConfig):
            return self._quantised(case.config)
        return [self._random(case, case.config)]

    def _made(self, case: Case) -> Path:
        folder = results_folder(self.folder, case).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _bench(self, case: Case) -> "Found":
        chip = case.config
        if not isinstance(chip, ChipConfig):
            chip = ChipConfig.alone(chip)
        folder = self._made(case)
        try:
            benches.run(case.name, chip, folder, seed=case.seed, waves=self.waves)
        finally:
            if self.waves and (folder / f"dump.{self.waves}").exists():
                self._bench_views(case, chip, folder)
        return Found("")

    def _bench_views(self, case: Case, chip: ChipConfig, folder: Path) -> None:
        """Views of a bench's waves; they open where it failed."""
        path = folder / f"dump.{self.waves}"
        design = benches.design((DIRECTED | benches.JOINT_BENCHES)[case.name], chip)
        at = simulator.failed_at(folder)
        write_views(path, design, None if at is None else Moment(at))

    def _random(self, case: Case, config: NPUConfig) -> "Found":
        network, pause = random_case(config, case.seed)
        recording = Recording(self._made(case) / f"dump.{self.waves}") if self.waves else None
        traces = rtl.simulate(network, config, seed=case.seed, pause=pause, recording=recording)
        equal: list[Trace] = []
        result = lockstep(network, config, traces, on_equal=equal.append)
        if recording:
            design = chip(ChipConfig.alone(config))
            write_views(recording.path, design, moment_of(recording, config, result))
        if not isinstance(result, Agreement):
            return Found(f"RTL: {result}")
        fast = Trace.join(list(simulate(network, "fast", config)))
        difference = first_difference(network, Trace.join(equal), fast)
        failure = f"fast engine: {difference}" if difference else ""
        return Found(failure, result.steps, result.values, result.clocks)

    def _quantised(self, config: MarsConfig) -> "list[Found]":
        networks = [_drawn(case, config) for case in self.cases]
        if self.cases[0].name in ON_RTL:
            found = list(mars_regression.on_rtl(config, networks))
        else:
            found = [mars_regression.on_model(network) for network in networks]
        return [
            Found(
                failure,
                values=equal.values + equal.drained + equal.words,
                clocks=equal.clocks,
                drawn=True,
            )
            for failure, equal in found
        ]

    def _joint(self, config: ChipConfig) -> "list[Found]":
        pairs = [joint_regression.random_case(config, case.seed) for case in self.cases]
        found = []
        for failure, equal in joint_regression.on_rtl(config, pairs):
            values = equal.values + equal.mars.values + equal.mars.drained + equal.mars.words
            values += equal.biases + equal.counts
            found.append(Found(failure, equal.steps, values, equal.clocks, drawn=True))
        return found


@dataclass(frozen=True)
class Found:
    """How a case went, wherever it ran; `drawn` if a network can be saved that shows a failure."""

    failure: str
    steps: int = 0
    values: int = 0
    clocks: int = 0
    drawn: bool = False

    def as_json(self) -> dict[str, object]:
        """Everything, ready for JSON."""
        return asdict(self)


class Regression:
    """Runs cases.

    Parameters
    ----------
    folder : Path
        Where logs, waves and networks that failed go, a folder for every case.
    waves : bool
        Whether to write waves and views of them.
    """

    def __init__(self, folder: Path, *, waves: bool) -> None:
        self._folder = folder
        self._kind = simulator.best_waves() if waves else ""

    def run(
        self, todo: list[Case], executor: Executor, store: Store | None = None
    ) -> Iterator[Outcome]:
        """Outcomes as they come; what passed before on this code is not run again."""
        simulators = _simulators(todo)
        jobs = [
            Simulation(
                tuple(part), self._folder, simulators[part[0].name, part[0].config], self._kind
            )
            for part in _simulations(todo)
        ]
        for done in results(jobs, executor, store):
            seconds = done.seconds / len(done.job.cases)
            for case, entry in zip(done.job.cases, done.result, strict=True):
                yield self._outcome(case, Found(**entry), seconds)

    def _outcome(self, case: Case, found: Found, seconds: float) -> Outcome:
        again = self._saved(case) if found.failure and found.drawn else ""
        counts = found.steps, found.values, found.clocks
        outcome = Outcome(case, found.failure, seconds, *counts, again)
        # The command is that of the simulator which runs now.
        return replace(outcome, again=outcome.command)

    def _saved(self, case: Case) -> str:
        """Leave the network of a case that failed; returns the command that shows the failure."""
        folder = results_folder(self._folder, case)
        if isinstance(case.config, ChipConfig):
            pair = joint_regression.random_case(case.config, case.seed)
            pair.save(folder)
            return pair.command(folder, case.config)
        assert isinstance(case.config, MarsConfig)
        network = _drawn(case, case.config)
        network.save(folder)
        return network.command(folder)


def results_folder(folder: Path, case: Case) -> Path:
    """Where a case leaves what it writes."""
    return folder / f"{case.config.name}-{case.name}-{case.seed}"


def _drawn(case: Case, config: MarsConfig) -> mars_regression.Network:
    """The random network of MARS of a case."""
    draw = {
        QUANTISED: mars_regression.random_case,
        SPIKING: mars_regression.random_spiking_case,
        ATTENTION: mars_regression.random_attention_case,
    }
    return draw[dict(KINDS).get(case.name, case.name)](config, case.seed)


def _code(case: Case) -> str:
    """A name for the code that computes a case."""
    if case.name in DIRECTED or case.name in benches.JOINT_BENCHES:
        modules = (DIRECTED | benches.JOINT_BENCHES)[case.name].modules.split(",")
        return code.digest(("tb.cosim", *modules), alone=(__name__, benches.__name__))
    if isinstance(case.config, ChipConfig):
        return code.digest((joint_regression.__name__,), alone=(__name__,))
    if isinstance(case.config, NPUConfig):
        return code.digest(RANDOM_CODE, alone=(__name__,))
    if case.name in ON_RTL:
        return code.digest((mars_regression.__name__,), alone=(__name__,))
    return code.digest(MODEL_CODE, alone=(__name__, mars_regression.__name__), without=("hw", "tb"))


def _simulators(todo: list[Case]) -> dict[tuple[str, Config], str]:
    """Names of what cases run on, which their content is part of, by case and configuration."""
    found: dict[tuple[str, Config], str] = {}
    for case in {(one.name, one.config): one for one in todo}.values():
        rtl = design(case)
        found[case.name, case.config] = simulator.build_dir(rtl).name if rtl else ""
    return found


def _simulations(todo: list[Case]) -> list[list[Case]]:
    """Cases one by one, but networks of MARS on the RTL, and pairs, in batches."""
    result = []
    for (name, _), group in itertools.groupby(todo, lambda case: (case.name, case.config)):
        own = list(group)
        size = BATCH if name in (*ON_RTL, JOINT) else 1
        result += [own[k : k + size] for k in range(0, len(own), size)]
    return result


def junit(outcomes: list[Outcome]) -> str:
    """The outcomes as JUnit XML, without times, so that equal outcomes are equal files."""
    suite = ET.Element(
        "testsuite",
        name="kenyon regress",
        tests=str(len(outcomes)),
        failures=str(sum(bool(outcome.failure) for outcome in outcomes)),
    )
    for outcome in outcomes:
        case = outcome.case
        element = ET.SubElement(
            suite,
            "testcase",
            classname=case.config.name,
            name=f"{case.name}-{case.seed}",
        )
        if outcome.failure:
            failure = ET.SubElement(element, "failure", message=outcome.failure.splitlines()[0])
            failure.text = f"{outcome.failure}\n{outcome.command}"
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
