"""Area, clock and energy of a chip in 180 nm."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from types import ModuleType

from firmware_tools.npu.examples import LEFT_LOOMS
from firmware_tools.silicon import activity, power, timing, workload
from firmware_tools.silicon.cells import library
from firmware_tools.silicon.macros import Macro, macros
from firmware_tools.silicon.timing import Timing
from hw.asic import osu018, synthesis
from hw.asic.synthesis import Netlist
from hw.generate import TOP
from hw.top import Kenyon
from model.config import ChipConfig
from model.npu.config import NPUConfig
from model.npu.network import Network
from tb import tb_activity
from tb.mars import tb_activity as mars_activity

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
    shares : list of Share
    """

    name: str
    clocks: int
    shares: list[Share]

    @property
    def total(self) -> float:
        """pJ."""
        return sum(share.logic + share.memory for share in self.shares)

    def parts(self, name: str) -> tuple[float, float]:
        """pJ of logic and memories that work for one of `PARTS`."""
        own = [share for share in self.shares if part_of(share.module) == name]
        return sum(share.logic for share in own), sum(share.memory for share in own)

    def as_json(self) -> dict[str, object]:
        """Everything, ready for JSON."""
        return {
            "network": self.name,
            "clocks": self.clocks,
            "pj": self.total,
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
                energies["pj_per_update"] = sum(one.parts(UPDATE)) / one.work.updates
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


def measure(chip: ChipConfig, busy: Callable[[str], None]) -> Report:
    """Synthesise and time a chip; simulate it in gates, if it has one accelerator.

    Parameters
    ----------
    busy : callable
        Is told what begins.
    """
    busy("synthesis")
    netlist = synthesis.plan(Kenyon(chip), TOP).done()
    busy("timing")
    path = timing.fastest(netlist)
    found = macros(netlist)
    measurements: list[Spiking | Frame | SpikingFrame] = []
    if chip.mars is None and chip.npu is not None:
        for network in networks(chip.npu):
            busy(f"simulation in gates, {network.name}")
            clocks, shares = _run(netlist, found, chip, tb_activity, (chip.npu, network))
            measurements.append(Spiking(network.name, clocks, shares, workload.work(network)))
    if chip.npu is None and chip.mars is not None:
        layer = workload.convolution(chip.mars)
        busy("simulation in gates, a convolution")
        clocks, shares = _run(netlist, found, chip, mars_activity, layer.job)
        measurements.append(Frame(layer.image.contents.name, clocks, shares, layer.work))
        with_neurons = workload.spiking_convolution(chip.mars)
        busy("simulation in gates, a convolution with neurons")
        clocks, shares = _run(netlist, found, chip, mars_activity, with_neurons.job)
        name = with_neurons.image.contents.name
        measurements.append(SpikingFrame(name, clocks, shares, with_neurons.work))
    leakage = power.leakage(netlist) + sum(macro.sram.leakage for macro in found)
    return Report(chip.name, path, _areas(netlist, found), leakage, measurements)


def networks(config: NPUConfig) -> list[Network]:
    """What is measured: the dense network, and the decision if the chip is large enough."""
    decision = workload.decision()
    fits = len(decision.populations) <= config.n_populations and (
        max(decision.populations) <= config.n_neurons
    )
    return [workload.dense_network(config), *([decision] if fits else [])]


def _run(
    netlist: Netlist, found: list[Macro], chip: ChipConfig, bench: ModuleType, work: object
) -> tuple[int, list[Share]]:
    """Clocks of a bench, and who took how much energy in them."""
    watched = {net for macro in found for net in macro.watched}
    watched.update(power.clock_gates(netlist).values())
    run = activity.run(chip, bench.__name__, work, watched)
    energies = power.energy(netlist, run)
    logic = _by_module((netlist.module_of(c), pj * run.clocks) for c, pj in energies.items())
    memory = _by_module((macro.owner, macro.energy(run.ones)) for macro in found)
    shares = [
        Share(module, logic.get(module, 0), memory.get(module, 0))
        for module in sorted(logic.keys() | memory.keys())
    ]
    return run.clocks, shares


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
