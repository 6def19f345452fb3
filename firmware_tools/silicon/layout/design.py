"""What is laid out: the cells of a netlist, without its memories."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from firmware_tools.silicon.layout import lef
from hw.asic.synthesis import Netlist

Bit = int
"""Number of a net in the netlist's JSON."""
NOISE = "noise"
"""A population is two blocks: its noise generator, which has few wires to others, and the rest."""
REST = "rest"


@dataclass(frozen=True)
class Instance:
    """A cell: `name` in the layout, path in the netlist, type, and the net of each pin."""

    name: str
    path: str
    kind: str
    pins: dict[str, Bit]

    @property
    def outline(self) -> lef.Outline:
        """Its size and pins."""
        return lef.outlines()[self.kind]


@dataclass(frozen=True)
class Design:
    """Cells and the nets between them.

    Attributes
    ----------
    instances : list of Instance
    border : set of int
        Nets that lead out: to a port, or to a memory, which stands beside.
    """

    instances: list[Instance]
    border: set[Bit]

    @cached_property
    def nets(self) -> dict[Bit, list[tuple[Instance, str]]]:
        """Pins of every net."""
        nets: dict[Bit, list[tuple[Instance, str]]] = defaultdict(list)
        for instance in self.instances:
            for pin, bit in instance.pins.items():
                nets[bit].append((instance, pin))
        return dict(nets)

    def part(self, instances: list[Instance]) -> "Design":
        """Some of its cells; what leads to the others leads out."""
        own = Design(instances, set())
        border = {
            bit
            for bit, pins in own.nets.items()
            if bit in self.border or len(pins) < len(self.nets[bit])
        }
        return Design(instances, border)


def read(netlist: Netlist) -> Design:
    """The cells of the library in a netlist."""
    instances: list[Instance] = []
    border: set[Bit] = set()
    for path, cell in netlist.cells["cells"].items():
        pins = cell["connections"]
        if cell["type"] in lef.outlines():
            name = f"u{len(instances)}"
            # Constants are no nets: the library ties them inside the cells (see `lvs`).
            own = {pin: bits[0] for pin, bits in pins.items() if isinstance(bits[0], int)}
            instances.append(Instance(name, path, cell["type"], own))
        else:
            border |= _nets(pins.values())
    border |= _nets(port["bits"] for port in netlist.cells["ports"].values())
    design = Design(instances, set())
    return Design(instances, border & design.nets.keys())


def _nets(groups: Any) -> set[Bit]:
    return {bit for bits in groups for bit in bits if isinstance(bit, int)}


def blocks(netlist: Netlist, design: Design) -> dict[str, Design]:
    """Parts that are placed one by one: two of every population, and the rest between."""
    parts: dict[str, list[Instance]] = defaultdict(list)
    for instance in design.instances:
        parts[_block(netlist.module_of(instance.path))].append(instance)
    return {name: design.part(parts[name]) for name in sorted(parts, key=_order)}


def _block(module: str) -> str:
    words = module.split(".")
    for k, word in enumerate(words):
        if word.startswith("population_") and word[len("population_") :].isdigit():
            return f"{word}.{NOISE}" if "noise_generator" in words[k + 1 : k + 2] else word
    return REST


def _order(name: str) -> tuple[int, str]:
    """The rest stands in the middle, noise outside."""
    if name == REST:
        return 1, ""
    return (0, f"{not name.endswith(NOISE)}") if name.startswith("population_0") else (2, name)
