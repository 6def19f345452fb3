"""Energy of a netlist from what toggled in it.

Debian's OpenSTA (2.0.17) has no way to take the activity of inner nets: it propagates a guess from
the inputs whatever `set_power_activity -pins` says. So the sum over cells is made here, from the
same tables of the same library.
"""

import re
from typing import Any

from firmware_tools.silicon.activity import CLOCK, Activity
from firmware_tools.silicon.cells import library
from firmware_tools.silicon.macros import PIN_CAPACITANCE, WIRE_PER_FANOUT
from hw.asic.osu018 import VDD
from hw.asic.synthesis import Netlist

CLOCK_NET = "clock net"
LAST_OF_GATE = re.compile(r"\.u\d+_\.gate$")


def energy(netlist: Netlist, activity: Activity) -> dict[str, float]:
    """pJ per clock of every cell: inside it, by the library's tables, and in the net it drives.

    Of a memory only the nets that it drives. `CLOCK_NET` is the net of the clock itself, without a
    tree of buffers.
    """
    cells = netlist.cells["cells"]
    rates = _rates(netlist, activity)
    loads = _loads(cells)
    (clock,) = netlist.cells["ports"][CLOCK]["bits"]
    result = {CLOCK_NET: _switched(loads[clock])}
    for path, instance in cells.items():
        cell = library().get(instance["type"])
        if cell is None:
            driven = _outputs(instance)
            result[path] = sum(rates[bit] * _switched(loads.get(bit, 0)) / 2 for bit in driven)
            continue
        pins = {pin: bits[0] for pin, bits in instance["connections"].items()}
        # Constants and nets that nothing drives do not toggle.
        total = sum(inner * rates.get(pins[pin], 0) for pin, inner in cell.inputs.items())
        for pin, table in cell.outputs.items():
            load = loads.get(pins[pin], 0)
            total += rates[pins[pin]] * (table.at(load) + _switched(load) / 2)
        result[path] = total
    return result


def clock_gates(netlist: Netlist) -> dict[str, str]:
    """The last cell of every clock gate, and the usual name of the net that opens it."""
    gates = (path for path in netlist.cells["cells"] if LAST_OF_GATE.search(path))
    return {path: f"{path}.B" for path in gates}


def leakage(netlist: Netlist) -> float:
    """uW of all cells."""
    types = (instance["type"] for instance in netlist.cells["cells"].values())
    return sum(library()[name].leakage for name in types if name in library()) / 1000


def _outputs(instance: dict[str, Any]) -> list[Any]:
    """Nets that a cell drives."""
    directions = instance["port_directions"]
    pins = instance["connections"].items()
    return [bit for pin, bits in pins if directions[pin] == "output" for bit in bits]


def _switched(load: float) -> float:
    """pJ that a net of so many pF takes from the supply in a pair of transitions."""
    return load * VDD**2


def _loads(cells: dict[str, Any]) -> dict[Any, float]:
    """pF of every net: inputs that it drives, and the estimate of its wire."""
    loads: dict[Any, float] = {}
    for instance in cells.values():
        known = library().get(instance["type"])
        for pin, bits in instance["connections"].items():
            if instance["port_directions"][pin] == "input":
                own = known.capacitance[pin] if known else PIN_CAPACITANCE
                for bit in bits:
                    loads[bit] = loads.get(bit, 0) + own + WIRE_PER_FANOUT
    return loads


def _rates(netlist: Netlist, activity: Activity) -> dict[Any, float]:
    """Transitions in a clock of every net."""
    module = netlist.cells
    same = _same(module["cells"])
    toggles: dict[Any, int] = {}
    named = list(module["netnames"].items())
    for path, cell in module["cells"].items():
        named += [(f"{path}.{pin}", {"bits": bits}) for pin, bits in cell["connections"].items()]
    for name, net in named:
        for k, bit in enumerate(net["bits"]):
            count = activity.toggles.get(name if len(net["bits"]) == 1 else f"{name}[{k}]")
            if count is not None:
                toggles[same.get(bit, bit)] = count
    nets = {bit for _, net in named for bit in net["bits"]}
    pairs = ((bit, toggles.get(same.get(bit, bit))) for bit in nets)
    rates = {bit: count / activity.clocks for bit, count in pairs if count is not None}
    for path, enable in clock_gates(netlist).items():
        if enable in activity.ones:
            # A pulse in every clock that its latch is 1, whatever became of its own name.
            (bit,) = module["cells"][path]["connections"]["Y"]
            rates[bit] = 2 * activity.ones[enable] / activity.clocks
    return rates


def _same(cells: dict[str, Any]) -> dict[Any, Any]:
    """The net that stands for others: behind a buffer, or out of a cell with the same inputs.

    The simulator merges them, and only one of their names is left.
    """
    same: dict[Any, Any] = {}
    logic = [
        (cell["type"], cell["connections"], cell["port_directions"])
        for cell in cells.values()
        if cell["type"] in library()
    ]
    grows = True
    while grows:
        grows = False
        seen: dict[Any, Any] = {}
        for kind, pins, directions in logic:
            inputs = tuple(
                (pin, same.get(bit, bit))
                for pin, (bit,) in pins.items()
                if directions[pin] == "input"
            )
            for pin, (bit,) in pins.items():
                if directions[pin] == "output":
                    alike = seen.setdefault((kind, pin, inputs), bit)
                    source = inputs[0][1] if "BUF" in kind else alike
                    stands = same.get(source, source)
                    if same.get(bit, bit) != stands:
                        same[bit] = stands
                        grows = True
    return same
