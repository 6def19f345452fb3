"""Area, clock and energy of a chip in 180 nm."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from types import ModuleType

from firmware_tools.npu.examples import LEFT_LOOMS
from firmware_tools.silicon import activity, delays, power, timed, timing, workload
from firmware_tools.silicon.cells import library
from firmware_tools.silicon.macros import LAID_OUT_PER_FANOUT, Macro, macros
from firmware_tools.silicon.timing import Timing
from hw.asic import osu018, synthesis
from hw.asic.synthesis import Netlist
from hw.generate import TOP
from hw.top import Kenyon
from model.config import ChipConfig
from model.npu.config import NPUConfig
from model.npu.network import Network
from tb import netlist as gates
from tb import simulator, tb_activity
from tb.mars import tb_activity as mars_activity
from tb.simulator import Design

SYNAPTIC, UPDATE, REST = "synaptic operations", "neuron updates", "all else"
MULTIPLY, POST = "multiply-accumulates", "post-processing"
PARTS = {
    "population": {
        "post_synaptic_units": SYNAPTIC,
        "weight_memory": SYNAPTIC,
        "walker": SYNAPTIC,
        "somas": UPDATE,
        "noise_generator": UPDATE,
        "neuron_memory": UPDATE,
    },
    "engine": {"core": MULTIPLY, "drain": POST, "post_processing": POST},
}
"""What the blocks of a population or of an accelerator's engine work for."""
NUMBER = re.compile(r"_\d+$")
IDLE, ALONE = "idle", "first population alone"
IDLE_CLOCKS = 200
"""All are alike."""
LOWER_SUPPLY = 1.2
"""Volts to which energies are scaled, too."""
OPERATIONS_PER_MAC = 2
"""A multiplication and an addition, as TOPS are counted everywhere."""
DECISION_STEPS = len(LEFT_LOOMS)
"""Time steps of a whole decision: its energy is that of the measured ones, so many times."""


@dataclass(frozen=True)
class Area:
    """um2 of a module without those in it."""

    module: str
    cells: int
    logic: float
    memory: float


@dataclass(frozen=True)
class Share:
    """pJ of a measurement that a module took: its cells with the nets they drive, its memories."""

    module: str
    logic: float
    memory: float


@dataclass(frozen=True)
class Measurement:
    """Energy of some work.

    Attributes
    ----------
    name : str
        Of the network.
    clocks : int
    toggles : int
        Transitions of all nets but those of the clock.
    shares : list of Share
    laid_out : float
        pJ of all, with the wires that the routed `tiny` has for each input.
    """

    name: str
    clocks: int
    toggles: int
    shares: list[Share]
    laid_out: float

    @property
    def total(self) -> float:
        """pJ."""
        return sum(share.logic + share.memory for share in self.shares)

    @property
    def pj_per_clock(self) -> float:
        """The mean; times the clock in MHz it is uW."""
        return self.total / self.clocks

    @property
    def total_at_lower_supply(self) -> float:
        """pJ at `LOWER_SUPPLY`, if all of it goes with the square of the voltage."""
        return self.total * (LOWER_SUPPLY / osu018.VDD) ** 2

    def parts(self, name: str) -> tuple[float, float]:
        """pJ of logic and memories that work for one of `PARTS`."""
        own = [share for share in self.shares if part_of(share.module) == name]
        return sum(share.logic for share in own), sum(share.memory for share in own)

    def as_json(self) -> dict[str, object]:
        """Everything, ready for JSON."""
        return {
            "network": self.name,
            "clocks": self.clocks,
            "toggles": self.toggles,
            "pj": self.total,
            "pj_at_1v2": self.total_at_lower_supply,
            "pj_laid_out": self.laid_out,
            "shares": [asdict(share) for share in self.shares],
        }


@dataclass(frozen=True)
class Spiking(Measurement):
    """Some time steps of a spiking network."""

    work: workload.Work

    @property
    def pj_per_sop(self) -> float:
        """Everything that the chip took, over all synaptic operations."""
        return self.total / self.work.synaptic_operations

    @property
    def pj_per_existing(self) -> float:
        """The same over those whose weight is not zero."""
        return self.total / self.work.existing

    @property
    def pj_per_update(self) -> float:
        """What works for the neurons, over all updates of one."""
        return sum(self.parts(UPDATE)) / self.work.updates

    @property
    def counts(self) -> dict[str, int]:
        """How often each part did what it is for."""
        return {SYNAPTIC: self.work.synaptic_operations, UPDATE: self.work.updates, REST: 0}

    def as_json(self) -> dict[str, object]:
        """Everything, ready for JSON."""
        return {
            **super().as_json(),
            **asdict(self.work),
            "pj_per_sop": self.pj_per_sop,
            "pj_per_existing": self.pj_per_existing,
            "pj_per_update": self.pj_per_update,
        }


@dataclass(frozen=True)
class Frame(Measurement):
    """A frame of a convolutional network."""

    work: workload.ConvolutionWork

    @property
    def pj_per_mac(self) -> float:
        """Everything that the chip took, over the multiply-accumulates that macros made."""
        return self.total / self.work.macs

    @property
    def tops_per_watt(self) -> float:
        """Operations that macros made, two in a multiply-accumulate, in 1e12 / s per W."""
        return OPERATIONS_PER_MAC / self.pj_per_mac

    @property
    def layer_tops_per_watt(self) -> float:
        """The same for the operations of the layer, its zeros included."""
        return self.tops_per_watt * self.work.layer_macs / self.work.macs

    @property
    def counts(self) -> dict[str, int]:
        """How often each part did what it is for."""
        return {MULTIPLY: self.work.macs, POST: 0, REST: 0}

    def as_json(self) -> dict[str, object]:
        """Everything, ready for JSON."""
        return {
            **super().as_json(),
            **asdict(self.work),
            "pj_per_mac": self.pj_per_mac,
            "tops_per_watt": self.tops_per_watt,
            "layer_tops_per_watt": self.layer_tops_per_watt,
        }


@dataclass(frozen=True)
class SpikingFrame(Measurement):
    """A frame of a convolution with neurons."""

    work: workload.SpikingWork

    @property
    def pj_per_sop(self) -> float:
        """Everything that the chip took, over the synaptic operations that change a membrane."""
        return self.total / self.work.effective

    @property
    def pj_per_dense_sop(self) -> float:
        """The same with silent inputs and zero weights counted."""
        return self.total / self.work.dense

    @property
    def counts(self) -> dict[str, int]:
        """How often each part did what it is for."""
        return {MULTIPLY: self.work.dense, POST: 0, REST: 0}

    def as_json(self) -> dict[str, object]:
        """Everything, ready for JSON."""
        return {
            **super().as_json(),
            **asdict(self.work),
            "pj_per_sop": self.pj_per_sop,
            "pj_per_dense_sop": self.pj_per_dense_sop,
        }


@dataclass(frozen=True)
class Report:
    """Everything that `kenyon ppa` shows."""

    config: str
    timing: Timing
    areas: list[Area]
    leakage: float
    measurements: Sequence[Spiking | Frame | SpikingFrame]
    delayed: Spiking | None = None
    """The first network again, with the delays of the cells: what glitches take is in it."""
    quiet: Sequence[Measurement] = ()
    """Populations with less to do: none of them anything, and one of them alone."""

    @property
    def area(self) -> float:
        """um2 of logic and memories."""
        return sum(area.logic + area.memory for area in self.areas)

    def as_json(self) -> dict[str, object]:
        """Everything, ready for JSON."""
        return {
            "configuration": self.config,
            "process": "OSU 180 nm, typical, 1.8 V, 25 C, before layout",
            "clock_mhz": self.timing.clock_mhz,
            "area_um2": self.area,
            "logic_um2": sum(area.logic for area in self.areas),
            "memory_um2": sum(area.memory for area in self.areas),
            "gate_equivalents": sum(area.logic for area in self.areas) / osu018.GATE_EQUIVALENT,
            "static_uw": self.leakage,
            **self._energies(),
            "critical_path": asdict(self.timing),
            "areas": [asdict(area) for area in self.areas],
            "measurements": [one.as_json() for one in self.measurements],
            "with_delays": self.delayed and self.delayed.as_json(),
            "quiet": [one.as_json() for one in self.quiet],
            "power_uw": {
                one.name: one.pj_per_clock * self.timing.clock_mhz
                for one in (*self.quiet, *self.measurements)
            },
        }

    def _energies(self) -> dict[str, float]:
        energies: dict[str, float] = {}
        for one in self.measurements:
            if isinstance(one, Frame):
                energies |= {"pj_per_mac": one.pj_per_mac, "tops_per_watt": one.tops_per_watt}
            elif isinstance(one, SpikingFrame):
                energies |= {
                    "pj_per_sop": one.pj_per_sop,
                    "pj_per_dense_sop": one.pj_per_dense_sop,
                }
            elif one.name == workload.DENSE:
                energies["pj_per_sop"] = one.pj_per_sop
                energies["pj_per_update"] = one.pj_per_update
            else:
                energies["decision_nj"] = one.total / one.work.steps * DECISION_STEPS / 1000
        return energies


def part_of(module: str) -> str:
    """Which of `PARTS` a module belongs to."""
    words = [NUMBER.sub("", word) for word in module.split(".")]
    for unit, parts in PARTS.items():
        if unit in words:
            return next((parts[word] for word in words if word in parts), REST)
    return REST


def measure(chip: ChipConfig, busy: Callable[[str], None], *, glitches: bool = False) -> Report:
    """Synthesise and time a chip; simulate it in gates, if it has one accelerator.

    Parameters
    ----------
    busy : callable
        Is told what begins.
    glitches : bool
        Simulate the populations with delays, too.
    """
    busy("synthesis")
    netlist = synthesis.plan(Kenyon(chip), TOP).done()
    busy("timing")
    path = timing.fastest(netlist)
    found = macros(netlist)
    bench = _Bench(netlist, found, gates.untraced(chip))
    measurements: list[Spiking | Frame | SpikingFrame] = []
    delayed, quiet = None, []
    if chip.mars is None and chip.npu is not None:
        for network in networks(chip.npu):
            busy(f"simulation in gates, {network.name}")
            measurements.append(bench.spiking(chip.npu, network))
        busy("simulation in gates, idle")
        quiet = [bench.idle(chip.npu)]
        if chip.npu.n_populations > 1:
            quiet.append(bench.alone(chip.npu))
        if glitches:
            busy("simulation in gates with delays")
            slow = timed.design(netlist, delays.of_cells(netlist))
            with simulator.icarus():
                delayed = replace(bench, design=slow).spiking(chip.npu, networks(chip.npu)[0])
    if chip.npu is None and chip.mars is not None:
        layer = workload.convolution(chip.mars)
        busy("simulation in gates, a convolution")
        run = bench.run(mars_activity, layer.job)
        measurements.append(Frame(layer.image.contents.name, *run, layer.work))
        with_neurons = workload.spiking_convolution(chip.mars)
        busy("simulation in gates, a convolution with neurons")
        run = bench.run(mars_activity, with_neurons.job)
        name = with_neurons.image.contents.name
        measurements.append(SpikingFrame(name, *run, with_neurons.work))
        busy("simulation in gates, idle")
        run = bench.run(mars_activity, replace(layer.job, idle_clocks=IDLE_CLOCKS))
        quiet = [Measurement(IDLE, *run)]
    leakage = power.leakage(netlist) + sum(macro.sram.leakage for macro in found)
    return Report(chip.name, path, _areas(netlist, found), leakage, measurements, delayed, quiet)


def networks(config: NPUConfig) -> list[Network]:
    """What is measured: the dense network, and the decision if the chip is large enough."""
    decision = workload.decision()
    fits = len(decision.populations) <= config.n_populations and (
        max(decision.populations) <= config.n_neurons
    )
    return [workload.dense_network(config), *([decision] if fits else [])]


@dataclass(frozen=True)
class _Bench:
    """What is simulated, and the netlist that it was made from."""

    netlist: Netlist
    memories: list[Macro]
    design: Design

    def spiking(self, config: NPUConfig, network: Network) -> Spiking:
        """The last segment of a network's session."""
        run = self.run(tb_activity, workload.job(config, network))
        return Spiking(network.name, *run, workload.work(network))

    def idle(self, config: NPUConfig) -> Measurement:
        """Nothing to do, behind a run."""
        job = workload.job(config, workload.dense_network(config))
        run = self.run(tb_activity, replace(job, idle_clocks=IDLE_CLOCKS))
        return Measurement(IDLE, *run)

    def alone(self, config: NPUConfig) -> Measurement:
        """The dense network of the first population; the others have no neurons."""
        first = workload.dense_network(replace(config, n_populations=1, links=()))
        return Measurement(ALONE, *self.run(tb_activity, workload.job(config, first)))

    def run(self, bench: ModuleType, work: object) -> tuple[int, int, list[Share], float]:
        """Clocks and transitions of a bench, who took how much energy in it; all as laid out."""
        watched = {net for macro in self.memories for net in macro.watched}
        watched.update(power.clock_gates(self.netlist).values())
        run = activity.run(self.design, bench.__name__, work, watched)
        energies = power.energy(self.netlist, run).items()
        logic = _by_module((self.netlist.module_of(c), pj * run.clocks) for c, pj in energies)
        memory = _by_module((macro.owner, macro.energy(run.ones)) for macro in self.memories)
        shares = [
            Share(module, logic.get(module, 0), memory.get(module, 0))
            for module in sorted(logic.keys() | memory.keys())
        ]
        with_wires = power.energy(self.netlist, run, per_fanout=LAID_OUT_PER_FANOUT)
        laid_out = sum(with_wires.values()) * run.clocks + sum(memory.values())
        return run.clocks, power.toggles(self.netlist, run), shares, laid_out


def _areas(netlist: Netlist, found: list[Macro]) -> list[Area]:
    cells = [
        (netlist.module_of(path), library()[cell["type"]].area)
        for path, cell in netlist.cells["cells"].items()
        if cell["type"] in library()
    ]
    count = Counter(module for module, _ in cells)
    logic = _by_module(cells)
    memory = _by_module((macro.owner, macro.sram.area) for macro in found)
    return [
        Area(module, count[module], logic.get(module, 0), memory.get(module, 0))
        for module in sorted(logic.keys() | memory.keys())
    ]


def _by_module(parts: Iterable[tuple[str, float]]) -> dict[str, float]:
    result: dict[str, float] = {}
    for module, value in parts:
        result[module] = result.get(module, 0) + value
    return result
