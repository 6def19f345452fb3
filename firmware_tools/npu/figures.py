"""The figures that the project promises, measured."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from firmware_tools import regression
from firmware_tools.jobs.choice import executor
from firmware_tools.npu import bench_engine
from firmware_tools.npu.backends import simulate
from model.npu import network_file
from model.npu.clocks import used_groups
from model.npu.config import CONFIGS
from model.npu.image import smallest_config
from model.npu.network import Network, Segment
from model.npu.trace import Trace
from tb import cosim, speed

SYNAPTIC_G = {32: 1.5, 256: 4, 1024: 6}
"""Bounds of the fast engine, by neurons."""
UPDATES_M = 64
BARE_SHARE = 0.5
MAX_OVERHEAD = 12
HELP_SECONDS = 0.7

FOLDER = Path("build") / "bench"
VECTORS = Path(__file__).parents[2] / "tests" / "vectors" / "iqif"
RANDOM_SEED = 1
FULL_COUNT, QUICK_COUNT = 200, 8
"""Random networks."""
RTL_CONFIG = CONFIGS["poppins"]
RTL_STEPS = 1000
HELP = [sys.executable, "-c", "from firmware_tools.cli import main; main()", "--help"]
HELP_RUNS = 5


@dataclass(frozen=True)
class Figure:
    """One figure and its bound.

    Attributes
    ----------
    name, unit : str
    measured, bound : float
    at_least : bool
        Whether the bound is the smallest good value rather than the largest.
    exact : bool
        Whether missing the bound is a mistake rather than a slow machine.
    """

    name: str
    unit: str
    measured: float
    bound: float
    at_least: bool = True
    exact: bool = False

    @property
    def good(self) -> bool:
        """Whether the bound is kept."""
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    def as_json(self) -> dict[str, object]:
        """Everything, ready for JSON."""
        return {
            "name": self.name,
            "unit": self.unit,
            "measured": self.measured,
            "at_least" if self.at_least else "at_most": self.bound,
            "good": self.good,
        }


def measurements(*, quick: bool) -> dict[str, Callable[[], list[Figure]]]:
    """What there is to measure, by its name."""
    return {
        "fast engine": partial(_engine, quick=quick),
        "RTL": _rtl,
        "command line": _command_line,
        "vectors": partial(_vectors, quick=quick),
        "random networks": partial(_random_networks, QUICK_COUNT if quick else FULL_COUNT),
    }


def _engine(*, quick: bool) -> list[Figure]:
    speeds = bench_engine.measure_all(*((3, 0.1) if quick else ()))
    result = [
        Figure(
            f"fast engine, {s.n_neurons} neurons, fully connected, half firing",
            "G synaptic operations/s",
            s.synaptic_operations_per_s / 1e9,
            SYNAPTIC_G[s.n_neurons],
        )
        for s in speeds
    ]
    smallest = speeds[0]
    updates = smallest.neuron_updates_per_s / 1e6
    name = f"fast engine, {smallest.n_neurons} neurons"
    return [*result, Figure(name, "M neuron updates/s", updates, UPDATES_M)]


def _rtl_network() -> Network:
    """A population that fills one of the chip's and keeps half of its neurons firing."""
    network = bench_engine.half_firing_network(RTL_CONFIG.n_neurons)
    return replace(network, session=(Segment(RTL_STEPS, network.session[0].bias),))


def _rtl() -> list[Figure]:
    network = _rtl_network()
    trace = Trace.join(list(cosim.simulate(network, RTL_CONFIG)))
    slots = (trace.rows + 1) * used_groups(network, RTL_CONFIG)
    overhead = int((trace.clocks - slots.max(axis=1)).max())
    measured = speed.cocotb_speed(network, RTL_CONFIG).clocks_per_second
    bare = speed.bare_speed(network, RTL_CONFIG).clocks_per_second
    name = f"RTL, {RTL_CONFIG.name}, {RTL_STEPS} steps"
    return [
        Figure(
            "clocks per time step, beyond rows x ceil(N/L) + ceil(N/L)",
            "clocks",
            overhead,
            MAX_OVERHEAD,
            at_least=False,
            exact=True,
        ),
        Figure(name, "k clocks/s", measured / 1e3, 0),
        Figure(f"{name}, against a bare C++ loop", "x", measured / bare, BARE_SHARE),
    ]


def _command_line() -> list[Figure]:
    def once() -> float:
        begin = time.perf_counter()
        subprocess.run(HELP, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begin

    seconds = statistics.median(once() for _ in range(HELP_RUNS))
    return [Figure("kenyon --help", "s", seconds, HELP_SECONDS, at_least=False)]


def _vectors(*, quick: bool) -> list[Figure]:
    paths = sorted(VECTORS.glob("*.json"))
    engines: dict[str, Callable[[Network], Iterator[Trace]]] = {
        "model": lambda network: simulate(network, "model"),
        "fast engine": lambda network: simulate(network, "fast"),
    }
    if not quick:
        engines["RTL"] = lambda network: cosim.simulate(network, smallest_config(network))
    return [
        Figure(
            f"vectors with every v, spike and current equal, {name}",
            f"of {len(paths)}",
            sum(_equals_vector(path, run) for path in paths),
            len(paths),
            exact=True,
        )
        for name, run in engines.items()
    ]


def _equals_vector(path: Path, run: Callable[[Network], Iterator[Trace]]) -> bool:
    trace = Trace.join(list(run(network_file.load(path))))
    with np.load(path.with_suffix(".npz")) as expected:
        return all(
            np.array_equal(getattr(trace, name), expected[name])
            for name in ("v", "spikes", "i_syn")
        )


def _random_networks(count: int) -> list[Figure]:
    todo = regression.cases(list(CONFIGS.values()), [regression.RANDOM], RANDOM_SEED, count)
    runs = regression.Regression(FOLDER, waves=False).run(todo, executor(None))
    equal = sum(not outcome.failure for outcome in runs)
    name = f"random networks, seed {RANDOM_SEED}, with every state and clock equal"
    return [Figure(name, f"of {count}", equal, count, exact=True)]
