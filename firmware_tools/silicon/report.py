"""Area, clock and energy of a spiking processor in 180 nm."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

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

SYNAPTIC, UPDATE, REST = "synaptic operations", "neuron updates", "all else"
PARTS = {
    "post_synaptic_units": SYNAPTIC,
    "weight_memory": SYNAPTIC,
    "walker": SYNAPTIC,
    "somas": UPDATE,
    "noise_generator": UPDATE,
    "neuron_memory": UPDATE,
}
"""What the blocks of a population work for."""
DECISION = len(LEFT_LOOMS)
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
    """Energy of a network in some time steps.

    Attributes
    ----------
    network : str
    work : workload.Work
    clocks : int
    shares : list of Share
    """

    network: str
    work: workload.Work
    clocks: int
    shares: list[Share]

    @property
    def total(self) -> float:
        """pJ."""
        return sum(share.logic + share.memory for share in self.shares)

    @property
    def pj_per_sop(self) -> float:
        """Everything that the chip took, over all synaptic operations."""
        return self.total / self.work.synaptic_operations

    def parts(self, name: str) -> tuple[float, float]:
        """pJ of logic and memories that work for one of `PARTS`."""
        own = [share for share in self.shares if part_of(share.module) == name]
        return sum(share.logic for share in own), sum(share.memory for share in own)


@dataclass(frozen=True)
class Report:
    """Everything that `kenyon ppa` shows."""

    config: str
    timing: Timing
    areas: list[Area]
    leakage: float
    measurements: list[Measurement]

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
            "measurements": [
                {
                    "network": one.network,
                    **asdict(one.work),
                    "clocks": one.clocks,
                    "pj": one.total,
                    "pj_per_sop": one.pj_per_sop,
                    "shares": [asdict(share) for share in one.shares],
                }
                for one in self.measurements
            ],
        }

    def _energies(self) -> dict[str, float]:
        if not self.measurements:
            return {}
        dense, *decisions = self.measurements
        energies = {
            "pj_per_sop": dense.pj_per_sop,
            "pj_per_update": sum(dense.parts(UPDATE)) / dense.work.updates,
        }
        for one in decisions:
            energies["decision_nj"] = one.total / one.work.steps * DECISION / 1000
        return energies


def part_of(module: str) -> str:
    """Which of `PARTS` a module belongs to."""
    words = module.split(".")
    if not any(word.startswith("population_") for word in words):
        return REST
    return next((PARTS[word] for word in words if word in PARTS), REST)


def measure(chip: ChipConfig, busy: Callable[[str], None]) -> Report:
    """Synthesise and time a chip; simulate its spiking processor in gates, if it has no other part.

    Parameters
    ----------
    busy : callable
        Is told what begins.
    """
    busy("synthesis")
    netlist = synthesis.synthesise(Kenyon(chip), TOP)
    busy("timing")
    path = timing.fastest(netlist)
    found = macros(netlist)
    measurements = []
    if chip.npu is not None and chip.mars is None:
        for network in networks(chip.npu):
            busy(f"simulation in gates, {network.name}")
            measurements.append(_measure(netlist, found, chip.npu, network))
    leakage = power.leakage(netlist) + sum(macro.sram.leakage for macro in found)
    return Report(chip.name, path, _areas(netlist, found), leakage, measurements)


def networks(config: NPUConfig) -> list[Network]:
    """What is measured: the dense network, and the decision if the chip is large enough."""
    decision = workload.decision()
    fits = len(decision.populations) <= config.n_populations and (
        max(decision.populations) <= config.n_neurons
    )
    return [workload.dense_network(config), *([decision] if fits else [])]


def _measure(
    netlist: Netlist, found: list[Macro], config: NPUConfig, network: Network
) -> Measurement:
    run = activity.run(config, network, {net for macro in found for net in macro.watched})
    energies = power.energy(netlist, run)
    logic = _by_module((netlist.module_of(c), pj * run.clocks) for c, pj in energies.items())
    memory = _by_module((macro.owner, macro.energy(run.ones)) for macro in found)
    shares = [
        Share(module, logic.get(module, 0), memory.get(module, 0))
        for module in sorted(logic.keys() | memory.keys())
    ]
    return Measurement(network.name, workload.work(network), run.clocks, shares)


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
