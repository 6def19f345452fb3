"""What toggles in a netlist while a bench runs: a simulation in gates.

Without delays there are no glitches: what toggles more than once in a clock is not seen. With those
of `timed` it is.
"""

import pickle
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tb import simulator, tb_activity
from tb.simulator import Design

CLOCK, DUMP = "clk", "activity.dump"


@dataclass
class Activity:
    """Counts of a simulation.

    Attributes
    ----------
    clocks : int
    toggles : dict
        Changes of each net, by a name that it has in the design.
    ones : dict
        Clocks in which a net was 1 when the clock rose; only of the nets that were asked for.
    """

    clocks: int = 0
    toggles: dict[str, int] = field(default_factory=dict)
    ones: dict[str, int] = field(default_factory=dict)


def run(design: Design, bench: str, work: object, watched: set[str]) -> Activity:
    """Run a bench on a netlist without trace ports, and count while it dumps.

    Parameters
    ----------
    design : Design
        `tb.netlist.untraced` or, on Icarus, `timed.design`.
    bench : str
        A module that reads `work` (`tb.tb_activity`, `tb.mars.tb_activity`).
    work : object
        What it is to do; picklable.
    watched : set of str
        Nets whose clocks at 1 are counted.
    """
    with tempfile.TemporaryDirectory(prefix="kenyon-") as name:
        folder = Path(name)
        job = folder / "job"
        job.write_bytes(pickle.dumps(work))
        simulator.run(design, bench, folder, environment={tb_activity.JOB: str(job)})
        with (folder / "activity.vcd").open("rb") as file:
            return count(file, watched)


def count(file: BinaryIO, watched: set[str]) -> Activity:
    """Count what changes in a VCD file after its first values, with the time at which `DUMP` falls.

    Raises
    ------
    ValueError
        It has no definitions.
    """
    names = _names(file)
    now = {code: [0] * len(bits) for code, bits in names.items()}
    counts = {code: [0] * len(bits) for code, bits in names.items()}
    clock, dump = (
        next(code for code, bits in names.items() if name in bits[0]) for name in (CLOCK, DUMP)
    )
    asked = [
        (name, now[code], k)
        for code, bits in names.items()
        for k, own in enumerate(bits)
        for name in own & watched
    ]
    ones: dict[str, int] = defaultdict(int)
    _start(file, now)
    for code, value in _changes(file, until=dump):
        if code == clock and value == b"1":
            # What registers take is what stood there before the edge.
            for name, bits, k in asked:
                ones[name] += bits[k]
        bits, count = now[code], counts[code]
        for k, digit in enumerate(reversed(value.rjust(len(bits), b"0"))):
            if bits[k] != digit - 48:
                bits[k] = digit - 48
                count[k] += 1
    toggles = {
        name: counts[code][k]
        for code, bits in names.items()
        for k, own in enumerate(bits)
        for name in own
    }
    return Activity(counts[clock][0] // 2, toggles, dict(ones))


def _names(file: BinaryIO) -> dict[bytes, list[set[str]]]:
    """Names of each bit of each code of a VCD file; reads its head with the first values."""
    names: dict[bytes, list[set[str]]] = {}
    scope: list[str] = []
    for line in file:
        words = line.split()
        if words[:1] == [b"$scope"]:
            scope.append(words[2].decode().removeprefix("\\"))
        elif words[:1] == [b"$upscope"]:
            scope.pop()
        elif words[:1] == [b"$var"]:
            width, code, name = int(words[2]), words[3], words[4].decode().removeprefix("\\")
            bits = names.setdefault(code, [set() for _ in range(width)])
            path = ".".join([*scope[1:], name])
            for k, own in enumerate(bits):
                own.add(path if width == 1 else f"{path}[{k}]")
        elif words[:1] == [b"$enddefinitions"]:
            return names
    raise ValueError("a VCD file must have definitions")


def _start(file: BinaryIO, now: dict[bytes, list[int]]) -> None:
    """Reads the values at the first time: nothing has changed yet."""
    for line in file:
        if line[:1] == b"#" and any(map(any, now.values())):
            return
        for code, value in _changes([line]):
            bits = now[code]
            for k, digit in enumerate(reversed(value.rjust(len(bits), b"0"))):
                bits[k] = digit - 48


def _changes(file: Iterable[bytes], until: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """Codes and their new values; to the end of the time at which the last code becomes 0."""
    ended = False
    for line in file:
        if ended and line[:1] == b"#":
            return
        if line[:1] in b"01":
            yield line[1:-1], line[:1]
            ended |= line == b"0%b\n" % until
        elif line[:1] == b"b":
            value, code = line[1:-1].split()
            yield code, value
