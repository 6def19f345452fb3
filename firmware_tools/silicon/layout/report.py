"""A chip's layout, or that of one of its blocks, and what its wires do to clock and energy."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from firmware_tools.errors import UserError
from firmware_tools.silicon import activity, power, timing, workload
from firmware_tools.silicon.layout import design, lvs, picture, placement, routing, tools, wires
from firmware_tools.silicon.layout.design import Bit, Design
from firmware_tools.silicon.layout.lef import UNIT
from firmware_tools.silicon.macros import WIRE_PER_FANOUT, macros
from hw.asic import synthesis
from hw.asic.synthesis import Netlist
from hw.generate import TOP
from hw.top import Kenyon
from model.config import ChipConfig
from model.npu.config import NPUConfig
from tb import netlist as gates
from tb import tb_activity


@dataclass(frozen=True)
class Compared:
    """A figure with wires as estimated, and as laid out."""

    estimated: float
    laid_out: float


@dataclass(frozen=True)
class Layout:
    """Everything that `kenyon layout` shows.

    Attributes
    ----------
    config, block : str
    cells, routed : int
        All nets of the block.
    nets, inputs : int
        Nets that stay in a block, or all of a chip, and the inputs that they drive.
    width, height : float
        um of the core.
    wire : float
        um of those nets.
    per_input : Compared
        fF of wire for each input.
    coupled : float
        fF for each input as Magic extracts them, with what couples to neighbours.
    energy, chip_energy : Compared
        pJ of the block's cells, and of the whole chip with its memories, for a synaptic operation
        of the dense network.
    clock : Compared
        MHz of the whole chip.
    picture : Path
    """

    config: str
    block: str
    cells: int
    routed: int
    nets: int
    inputs: int
    width: float
    height: float
    wire: float
    per_input: Compared
    coupled: float
    energy: Compared
    chip_energy: Compared
    clock: Compared
    picture: Path

    def as_json(self) -> dict[str, object]:
        """Everything, ready for JSON."""
        return {**asdict(self), "picture": self.picture.as_posix()}


def measure(chip: ChipConfig, block: str, busy: Callable[[str], None]) -> Layout:
    """Place, route and compare a block, or all of the chip if it is empty.

    Raises
    ------
    UserError
        There is no such block; a tool is missing or failed; nets stay unrouted; layout and netlist
        differ.
    """
    if chip.npu is None or chip.mars is not None:
        raise UserError(f"a chip that is laid out must have populations alone, not be {chip.name}")
    tools.check_installed()
    busy("synthesis")
    netlist = synthesis.plan(Kenyon(chip), TOP).done()
    everything = design.read(netlist)
    blocks = design.blocks(netlist, everything)
    if block and block not in blocks:
        raise UserError(f"block must be one of {', '.join(blocks)}, not {block}")
    chosen = {block: blocks[block]} if block else blocks
    own = blocks[block] if block else everything
    places = placement.place(chosen, busy)
    busy(f"routing, {len(own.nets):,} nets")
    routed = routing.route(own, places, busy)
    text = (routed / routing.ROUTED).read_text()
    busy("comparison of layout and netlist")
    compared = lvs.compare(own, places, routed)
    image = picture.draw(own, places, text, routed / "layout.png")
    every = wires.lengths(text)
    # A block's wires go on outside; those of a chip end at its edge, where memories would stand.
    lengths = {bit: um for bit, um in every.items() if not block or bit not in own.border}
    known = wires.capacitances(lengths)
    inputs = _inputs(own, known)
    size = routing.core(places.values())
    energy = _energy(chip, chip.npu, netlist, own, known, busy)
    return Layout(
        chip.name,
        block,
        len(own.instances),
        len(every),
        len(known),
        inputs,
        size.width / UNIT,
        size.height / UNIT,
        sum(sum(um.values()) for um in lengths.values()),
        Compared(1000 * WIRE_PER_FANOUT, 1000 * sum(known.values()) / inputs),
        1000 * lvs.coupled(compared) / _inputs(own, own.nets),
        *energy,
        _clock(netlist, known, busy),
        image,
    )


def _inputs(own: Design, nets: Iterable[Bit]) -> int:
    """How many inputs nets drive; what is outside counts as one."""
    return sum(len(own.nets[bit]) - (bit not in own.border) for bit in nets)


def _energy(
    chip: ChipConfig,
    config: NPUConfig,
    netlist: Netlist,
    own: Design,
    known: dict[Bit, float],
    busy: Callable[[str], None],
) -> tuple[Compared, Compared]:
    """Of the block, and of the whole chip."""
    busy("simulation in gates")
    network = workload.dense_network(config)
    memories = macros(netlist)
    watched = {net for macro in memories for net in macro.watched}
    watched.update(power.clock_gates(netlist).values())
    job = workload.job(config, network)
    run = activity.run(gates.untraced(chip), tb_activity.__name__, job, watched)
    operations = workload.work(network).synaptic_operations
    memory = sum(macro.energy(run.ones) for macro in memories) / operations
    cells = {instance.path for instance in own.instances}
    both = [
        {cell: pj * run.clocks / operations for cell, pj in energies.items()}
        for energies in (power.energy(netlist, run), power.energy(netlist, run, known))
    ]
    within = (sum(pj for cell, pj in energies.items() if cell in cells) for energies in both)
    return Compared(*within), Compared(*(sum(energies.values()) + memory for energies in both))


def _clock(netlist: Netlist, known: dict[Bit, float], busy: Callable[[str], None]) -> Compared:
    busy("timing")
    drivers = {
        f"{path}/{pin}" if len(bits) == 1 else f"{path}/{pin}[{k}]": known[bit]
        for path, cell in netlist.cells["cells"].items()
        for pin, bits in cell["connections"].items()
        for k, bit in enumerate(bits)
        if cell["port_directions"][pin] == "output" and bit in known
    }
    estimated, laid_out = (timing.fastest(netlist, given) for given in (None, drivers))
    return Compared(estimated.clock_mhz, laid_out.clock_mhz)
