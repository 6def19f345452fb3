"""What waves are shown with: views for GTKWave and Surfer that open where something happened.

A simulator keeps beside itself what can be said of its signals (`scene`): ports and state machines.
"""

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import log2
from pathlib import Path

from vcd.gtkw import GTKWSave

from tb.bench import CLOCK_NS
from tb.simulator import Waves

SCENE = "scene.json"
PORT = re.compile(r"^  (?:input|output) (?:signed )?(?:\[(\d+):0\] )?(\w+);$", re.MULTILINE)
INTERFACE = re.compile(
    r"(s_axil|s_axis_events|m_axis_spikes|m_axi_weights|trace_\d+|trace_mars|trace)_|"
)
"""How ports begin that belong together."""
ENCODINGS = {
    "resp": {0: "OKAY", 1: "EXOKAY", 2: "SLVERR", 3: "DECERR"},
    "burst": {0: "FIXED", 1: "INCR", 2: "WRAP"},
}
"""What values of ports with this ending mean: AXI4's."""
PS_PER_NS = 1000
"""Waves count picoseconds."""
SHOWN = 40 * CLOCK_NS * PS_PER_NS
"""What a view opens on."""
PIXELS = 1200
"""Of a window, about."""
HEX_DIGITS = "abcdefghijklmnop"
"""What Surfer calls the digits of a line's number."""
FST_END = slice(17, 25)
"""Where an FST file says when it ends."""


@dataclass(frozen=True)
class Moment:
    """What a view opens on.

    Attributes
    ----------
    ns : int
        Begin of a clock.
    ports : str
        How those ports begin that are shown first.
    """

    ns: int
    ports: str = ""


def kind(path: Path) -> Waves:
    """The format of a file, by its name."""
    return "fst" if path.suffix == ".fst" else "vcd"


def scene(verilog: str, module: str, states: dict[str, dict[int, str]], path: str = "") -> str:
    """JSON of what a view is made of.

    Parameters
    ----------
    verilog : str
    module : str
        Whose ports are shown.
    states : {path: {value: name}}
        Of state machines (`hw.generate.convert_with_states`).
    path : str
        Where the module is in the waves, if it is not the outermost one.
    """
    text = verilog[verilog.index(f"module {module}(") :]
    ports = PORT.findall(text[: text.index("\nendmodule")])
    below = {name.removeprefix(f"{module}."): values for name, values in states.items()}
    return json.dumps(
        {
            "path": path or module,
            "ports": {name: int(highest or 0) + 1 for highest, name in ports},
            "states": below,
        }
    )


@dataclass(frozen=True)
class Line:
    """A signal of a view.

    Attributes
    ----------
    group : str
        What it belongs to, one word.
    path : str
        Below that of the scene.
    width : int
    names : {int: str}
        Of its values, if they have names.
    """

    group: str
    path: str
    width: int
    names: dict[int, str]

    @property
    def label(self) -> str:
        """What its encoding is called, in files and menus."""
        return self.path.replace(".", "_")


def write(path: Path, simulator: Path, moment: Moment | None) -> list[Path]:
    """Write the views of waves beside them; returns those of GTKWave and of Surfer.

    Parameters
    ----------
    path : Path
        The waves.
    simulator : Path
        The folder of the simulator that wrote them.
    moment : Moment, optional
        Without one they open at their begin.
    """
    moment = moment or Moment(0)
    given = json.loads((simulator / SCENE).read_text())
    lines = list(_lines(given, moment.ports))
    at = PS_PER_NS * moment.ns
    return [write_it(path, given["path"], lines, at) for write_it in (_gtkwave, _surfer)]


def _lines(given: dict, first: str) -> Iterator[Line]:
    """Pins, what differs, states, and what is left, by interface."""
    ports: dict[str, int] = given["ports"]
    groups: dict[str, list[Line]] = {"pins": [], first or "pins": [], "states": []}
    for name in sorted(ports):
        names = next((known for end, known in ENCODINGS.items() if name.endswith(end)), {})
        group = INTERFACE.match(name)[1] or "pins"
        groups.setdefault(group, []).append(Line(group, name, ports[name], names))
    for name, states in given["states"].items():
        values = {int(value): state for value, state in states.items()}
        width = max(1, (len(values) - 1).bit_length())
        groups["states"].append(Line("states", name, width, values))
    return itertools.chain.from_iterable(groups.values())


def _gtkwave(path: Path, top: str, lines: list[Line], at: int) -> Path:
    """A save file, and a translate file for each encoding."""
    view, names = path.with_suffix(".gtkw"), path.with_suffix(".names")
    names.mkdir(exist_ok=True)
    with view.open("w") as file:
        save = GTKWSave(file)
        save.dumpfile(str(path))
        save.timestart(max(0, at - SHOWN // 4))
        save.zoom_markers(-log2(SHOWN / PIXELS), at)
        for group, own in itertools.groupby(lines, lambda line: line.group):
            with save.group(group):
                for line in own:
                    bits = f"[{line.width - 1}:0]" if line.width > 1 else ""
                    save.trace(
                        f"{top}.{line.path}{bits}",
                        alias=line.path,
                        translate_filter_file=_translate_file(names, line),
                    )
    return view


def _translate_file(folder: Path, line: Line) -> str | None:
    """Its absolute name, if values have names."""
    if not line.names:
        return None
    path = folder.absolute() / f"{line.label}.txt"
    digits = -(-line.width // 4)
    path.write_text("".join(f"{n:0{digits}x} {name}\n" for n, name in line.names.items()))
    return str(path)


def _surfer(path: Path, top: str, lines: list[Line], at: int) -> Path:
    """A command file, and a mapping for each encoding, in the folder from which Surfer runs."""
    view = path.with_suffix(".sucl")
    mappings = path.parent / ".surfer" / "mappings"
    mappings.mkdir(parents=True, exist_ok=True)
    commands, shown = [f"load_file {path.name}"], 0
    for group, own in itertools.groupby(lines, lambda line: line.group):
        commands.append(f"divider_add {group}")
        shown += 1
        for line in own:
            commands.append(f"variable_add {top}.{line.path}")
            if line.names:
                rows = [f"Name = {line.label}", f"Bits = {line.width}"]
                rows += [f"{n} {name}" for n, name in line.names.items()]
                (mappings / f"{line.label}.txt").write_text("\n".join(rows) + "\n")
                index = "".join(HEX_DIGITS[int(digit, 16)] for digit in f"{shown:x}")
                commands += [f"item_focus {index}_{line.path}", f"item_set_format {line.label}"]
            shown += 1
    commands += ["item_unfocus", "zoom_fit", f"cursor_set {at}"]
    # Half as much each time, and never without the cursor.
    for _ in range(round(log2(max(1, end(path) / SHOWN)))):
        commands += ["zoom_in", "goto_cursor"]
    view.write_text("\n".join(commands) + "\n")
    return view


def end(path: Path) -> int:
    """When waves end, in picoseconds."""
    if kind(path) == "fst":
        with path.open("rb") as file:
            return int.from_bytes(file.read(FST_END.stop)[FST_END], "big")
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 20)))
        times = re.findall(rb"^#(\d+)$", file.read(), re.MULTILINE)
    return int(times[-1]) if times else 0
