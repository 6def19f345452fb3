"""The memories of a netlist, and what timing analysis needs to know of them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from firmware_tools.silicon.sram import SETUP, Sram
from hw.asic.synthesis import Netlist

WIRE_MODEL = "estimated"
WIRE_PER_FANOUT = 0.012
"""pF of wire for each input that a net drives: 45 um of 0.28 fF/um (ours)."""
LAID_OUT_PER_FANOUT = 0.0047
"""The same in a layout of `tiny` without channels, as Magic extracts it: 40 um of 0.12 fF/um; with
channels it is 0.0051 (docs/silicon.md)."""
PIN_CAPACITANCE = 0.03
"""pF of an input of a memory (ours)."""
MAX_CAPACITANCE = 1.0


@dataclass(frozen=True)
class Macro:
    """A memory of the netlist.

    Attributes
    ----------
    instance, module : str
        Path in the design and name of the module.
    sram : Sram
    ports : dict
        Direction and width by name.
    read_enable : str
        Net that is 1 in a clock that reads.
    write_enable : list of str
        For each bit of a word, the net that is 1 in a clock that writes it.
    """

    instance: str
    module: str
    sram: Sram
    ports: dict[str, tuple[str, int]]
    read_enable: str
    write_enable: list[str]

    @property
    def owner(self) -> str:
        """Path of the module that it stands in."""
        return self.instance.rpartition(".")[0]

    @property
    def watched(self) -> set[str]:
        """The nets that say what the memory does, by their names in the design."""
        return {self.read_enable, *self.write_enable}

    def energy(self, ones: dict[str, int]) -> float:
        """pJ of its accesses, from how many clocks each of those nets was 1."""
        reads = ones.get(self.read_enable, 0)
        written = [ones.get(net, 0) for net in self.write_enable]
        writes = max(written)
        result = reads * self.sram.read_energy
        if writes:
            result += writes * self.sram.write_energy(sum(written) / writes)
        return result


def macros(netlist: Netlist) -> list[Macro]:
    """All memories of a netlist, in the order of their paths."""
    modules = json.loads((netlist.folder / "memories.json").read_text())["modules"]
    found = []
    for path, cell in netlist.cells["cells"].items():
        if cell["type"] in modules:
            found.append(_macro(path, cell["type"], modules[cell["type"]]))
    return sorted(found, key=lambda macro: macro.instance)


def _macro(path: str, name: str, module: dict[str, Any]) -> Macro:
    (memory,) = (cell for cell in module["cells"].values() if cell["type"] == "$mem_v2")
    size, width = (int(memory["parameters"][key], 2) for key in ("SIZE", "WIDTH"))
    ports = {port: (spec["direction"], len(spec["bits"])) for port, spec in module["ports"].items()}
    names = {
        bit: f"{path}.{net}" if len(spec["bits"]) == 1 else f"{path}.{net}[{index}]"
        for net, spec in module["netnames"].items()
        for index, bit in enumerate(spec["bits"])
    }
    pins = memory["connections"]
    one_address = pins["RD_ADDR"] == pins["WR_ADDR"][: len(pins["RD_ADDR"])]
    return Macro(
        path,
        name,
        Sram(size, width, two_port=not one_address),
        ports,
        names[pins["RD_EN"][0]],
        [names[bit] for bit in pins["WR_EN"]],
    )


def liberty(found: list[Macro]) -> str:
    """Timing of the memories, and the estimate of wires, as a Liberty library."""
    kinds = {macro.module: macro for macro in found}.values()
    widths = sorted({width for macro in kinds for _, width in macro.ports.values() if width > 1})
    lines = [
        "library(kenyon) {",
        '  time_unit : "1ns"; voltage_unit : "1V"; current_unit : "1uA";',
        '  pulling_resistance_unit : "1kohm"; leakage_power_unit : "1nW";',
        "  capacitive_load_unit (1,pf);",
        "  slew_upper_threshold_pct_rise : 80; slew_lower_threshold_pct_rise : 20;",
        "  slew_upper_threshold_pct_fall : 80; slew_lower_threshold_pct_fall : 20;",
        "  input_threshold_pct_rise : 50; input_threshold_pct_fall : 50;",
        "  output_threshold_pct_rise : 50; output_threshold_pct_fall : 50;",
        "  nom_process : 1; nom_voltage : 1.8; nom_temperature : 25;",
        f"  wire_load({WIRE_MODEL}) {{",
        f"    resistance : 0; capacitance : {WIRE_PER_FANOUT}; area : 0; slope : 1;",
        "    fanout_length(1, 1);",
        "  }",
    ]
    for width in widths:
        lines += [
            f"  type(bits_{width}) {{",
            "    base_type : array; data_type : bit;",
            f"    bit_width : {width}; bit_from : {width - 1}; bit_to : 0; downto : true;",
            "  }",
        ]
    for macro in kinds:
        lines += [f'  cell("{macro.module}") {{', f"    area : {macro.sram.area:.0f};"]
        for port, (direction, width) in macro.ports.items():
            lines += _port(port, direction, width, macro.sram)
        lines += ["  }"]
    return "\n".join([*lines, "}", ""])


def _port(name: str, direction: str, width: int, sram: Sram) -> Iterator[str]:
    if width > 1:
        yield f'    bus("{name}") {{ bus_type : bits_{width};'
    else:
        yield f'    pin("{name}") {{'
    yield f"      direction : {direction};"
    if direction == "output":
        yield f"      max_capacitance : {MAX_CAPACITANCE};"
        yield '      timing() { related_pin : "clk"; timing_type : rising_edge;'
        for what, value in (("cell", sram.delay), ("transition", 0.2)):
            for edge in ("rise", "fall"):
                key = f"{what}_{edge}" if what == "cell" else f"{edge}_{what}"
                yield f'        {key}(scalar) {{ values("{value:.3f}"); }}'
        yield "      }"
    else:
        yield f"      capacitance : {PIN_CAPACITANCE};"
        if name == "clk":
            yield "      clock : true;"
        else:
            yield '      timing() { related_pin : "clk"; timing_type : setup_rising;'
            for edge in ("rise", "fall"):
                yield f'        {edge}_constraint(scalar) {{ values("{SETUP}"); }}'
            yield "      }"
    yield "    }"
