"""Energy of a netlist from what toggled in it.

Debian's OpenSTA (2.0.17) has no way to take the activity of inner nets: it propagates a guess from
the inputs whatever `set_power_activity -pins` says. So the sum over cells is made here, from the
same tables of the same library.
"""

from collections.abc import Mapping
from typing import Any

from firmware_tools.silicon.activity import CLOCK, Activity
from firmware_tools.silicon.cells import library
from firmware_tools.silicon.macros import PIN_CAPACITANCE, WIRE_PER_FANOUT
from hw.asic.osu018 import VDD
from hw.asic.synthesis import GATE_CELL, Netlist

CLOCK_NET = "clock net"


def energy(
    netlist: Netlist,
    activity: Activity,
    wires: Mapping[Any, float] | None = None,
    per_fanout: float = WIRE_PER_FANOUT,
) -> dict[str, float]:
    """pJ per clock of every cell: inside it, by the library's tables, and in the net it drives.

    Of a memory only the nets that it drives. `CLOCK_NET` is the net of the clock itself, without a
    tree of buffers.

    Parameters
    ----------
    netlist : Netlist
    activity : Activity
    wires : dict, optional
        pF of wires that are known, by the number of their net; the others are estimated.
    per_fanout : float
        The estimate, pF for each input that a net drives.
    """
    cells = netlist.cells["cells"]
    rates = _rates(netlist, activity)
    loads = _loads(cells, wires or {}, per_fanout)
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


def toggles(netlist: Netlist, activity: Activity) -> int:
    """Transitions of all nets but those of the clock and behind its gates."""
    rates = _rates(netlist, activity)
    cells = netlist.cells["cells"]
    clocks = set(netlist.cells["ports"][CLOCK]["bits"])
    clocks.update(cells[path]["connections"]["Y"][0] for path in clock_gates(netlist))
    return round(activity.clocks * sum(rate for bit, rate in rates.items() if bit not in clocks))


def clock_gates(netlist: Netlist) -> dict[str, str]:
    """The last cell of every clock gate, and the usual name of the net that opens it."""
    found = (GATE_CELL.search(path) for path in netlist.cells["cells"])
    gates = (match.string for match in found if match and match[1] == "gate")
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


def _loads(
    cells: dict[str, Any], wires: Mapping[Any, float], per_fanout: float
) -> dict[Any, float]:
    """pF of every net: inputs that it drives, and its wire or the estimate of it."""
    loads: dict[Any, float] = dict(wires)
    for instance in cells.values():
        known = library().get(instance["type"])
        for pin, bits in instance["connections"].items():
            if instance["port_directions"][pin] == "input":
                own = known.capacitance[pin] if known else PIN_CAPACITANCE
                for bit in bits:
                    wire = 0 if bit in wires else per_fanout
                    loads[bit] = loads.get(bit, 0) + own + wire
    return loads


def _rates(netlist: Netlist, activity: Activity) -> dict[Any, float]:
    """Transitions in a clock of every net."""
    module = netlist.cells
    toggles: dict[Any, int] = {}
    named = list(module["netnames"].items())
    for path, cell in module["cells"].items():
        named += [(f"{path}.{pin}", {"bits": bits}) for pin, bits in cell["connections"].items()]
    for name, net in named:
        for k, bit in enumerate(net["bits"]):
            count = activity.toggles.get(name if len(net["bits"]) == 1 else f"{name}[{k}]")
            if count is not None:
                toggles[bit] = count
    for path, enable in clock_gates(netlist).items():
        if enable in activity.ones:
            # A pulse in every clock that its latch is 1, whatever became of its own name.
            (bit,) = module["cells"][path]["connections"]["Y"]
            toggles[bit] = 2 * activity.ones[enable]
    # The simulator merges what a buffer drives with what drives it.
    buffers = [
        (cell["connections"]["A"][0], cell["connections"]["Y"][0])
        for cell in module["cells"].values()
        if "BUF" in cell["type"]
    ]
    known = 0
    while known != len(toggles):
        known = len(toggles)
        for one, other in (*buffers, *(pair[::-1] for pair in buffers)):
            if one in toggles:
                toggles.setdefault(other, toggles[one])
    return {bit: count / activity.clocks for bit, count in toggles.items()}
