"""The netlist of a chip after synthesis, for simulation in place of the RTL."""

from dataclasses import replace
from pathlib import Path

from model.config import ChipConfig
from tb import cosim
from tb.simulator import Design


def chip(config: ChipConfig) -> Design:
    """As `tb.cosim.chip`, in gates: each cell by its function, memories by their behaviour.

    Building raises hw.asic.osu018.MissingLibrary or hw.yosys.YosysError.
    """
    rtl = cosim.chip(config)

    def sources() -> dict[str, str]:
        texts = rtl.sources()
        del texts["kenyon.v"]
        return texts | _gates(config, trace=True)

    return replace(rtl, name=f"{rtl.name}-gates", sources=sources)


def untraced(config: ChipConfig) -> Design:
    """The chip as it would be made, without trace ports, and what dumps its activity."""
    rtl = cosim.chip(config)

    def sources() -> dict[str, str]:
        dump = Path(__file__).with_name("activity.sv")
        return _gates(config, trace=False) | {dump.name: dump.read_text()}

    return replace(rtl, name=f"{rtl.name}-gates-untraced", sources=sources, runs_once=True)


def _gates(config: ChipConfig, *, trace: bool) -> dict[str, str]:
    from hw.asic import synthesis
    from hw.generate import TOP
    from hw.top import Kenyon

    netlist = synthesis.synthesise(Kenyon(config, trace=trace), TOP)
    return {name: (netlist.folder / name).read_text() for name in ("gates.v", "memories.v")}
