"""The netlist of a chip after synthesis, for simulation in place of the RTL."""

from pathlib import Path

from hw.asic import synthesis
from hw.generate import TOP
from hw.top import Kenyon
from model.config import ChipConfig
from tb import cosim, waves
from tb.simulator import Design


def chip(config: ChipConfig) -> Design:
    """As `tb.cosim.chip`, in gates: each cell by its function, memories by their behaviour.

    Raises hw.asic.osu018.MissingLibrary; building also hw.yosys.YosysError.
    """

    def monitors() -> dict[str, str]:
        texts = cosim.chip(config).sources()
        del texts["kenyon.v"], texts[waves.SCENE]
        return texts

    return _design(Kenyon(config, trace=True), monitors, dumps=False)


def untraced(config: ChipConfig) -> Design:
    """The chip as it would be made, without trace ports, and what dumps its activity."""
    dump = Path(__file__).with_name("activity.sv")
    return _design(Kenyon(config), lambda: {dump.name: dump.read_text()}, dumps=True)


def _design(component, others, *, dumps: bool) -> Design:
    plan = synthesis.plan(component, TOP)

    def sources() -> dict[str, str]:
        folder = plan.done().folder
        gates = {name: (folder / name).read_text() for name in ("gates.v", "memories.v")}
        return gates | {waves.SCENE: waves.scene(gates["gates.v"], TOP, {})} | others()

    return Design(f"gates-{plan.netlist.folder.name}", TOP, sources, effort="-O0", dumps=dumps)
