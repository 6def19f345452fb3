"""Draws mutants with Yosys' `mutate`, and makes one design that holds them all."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from firmware_tools.errors import UserError
from firmware_tools.mutation.targets import (
    CONTROL,
    CONTROL_WIDTH,
    NUMBER,
    READY,
    Module,
    Target,
    cells,
    modules_by_file,
    relative,
)
from hw import yosys
from hw.cache import cached, key

LEAST = 5
"""Mutants of every RTL file."""
SPARE = 4
"""So many times as many are drawn as are needed, because some are of no use."""
CLOCKS = ("clk", "CLK", "RD_CLK", "WR_CLK")
"""A gate in a clock is a race in simulation, even if it does nothing."""
DIGITS = 12


@dataclass(frozen=True)
class Mutant:
    """One way to break the RTL: a bit of a port of a cell is inverted, stuck or disturbed.

    Attributes
    ----------
    design : str
    number : int
        What wakes it, from 1.
    file : str
        RTL file to which it counts.
    module, cell, port : str
    bit : int
        Of the port.
    mode : str
        `inv`; `const0`, `const1`; `cnot0`, `cnot1`: inverted where another bit of the port is 0, 1.
    control_bit : str
        That other bit, or empty.
    source : str
        Place of the cell in a source file, if it is known.
    wire : str
        A named signal at the port, if there is one.
    fingerprint : str
        Of the module: says whether a reason that was given for its survival still holds.
    """

    design: str
    number: int
    file: str
    module: str
    cell: str
    port: str
    bit: int
    mode: str
    control_bit: str
    source: str
    wire: str
    fingerprint: str

    @property
    def label(self) -> str:
        """Short, among the mutants of one draw."""
        return f"{self.design}-{self.number}"

    @property
    def name(self) -> str:
        """The same for the same change of the same RTL."""
        control = f"/{self.control_bit}" if self.control_bit else ""
        module = NUMBER.sub("", self.module)  # of names that Amaranth finds twice
        return f"{self.mode}{control} {module} {self.cell}.{self.port}[{self.bit}]"

    @property
    def where(self) -> str:
        """For people: place and signal."""
        return f"{self.source or self.file} {self.wire}".strip()

    def command(self, *options: object) -> str:
        """Yosys' command that makes it."""
        words = ["mutate", "-mode", self.mode, "-module", self.module, "-cell", self.cell]
        words += ["-port", self.port, "-portbit", str(self.bit)]
        words += ["-ctrlbit", self.control_bit] if self.control_bit else []
        return " ".join([*words, *map(str, options)])

    @property
    def switched(self) -> str:
        """The command that makes it sleep until its number comes."""
        return self.command("-ctrl", CONTROL, CONTROL_WIDTH, self.number)


def shares(cells: dict[tuple[str, str], int], count: int) -> dict[tuple[str, str], int]:
    """Mutants by file: `LEAST` for each, the others in proportion to its cells.

    Raises
    ------
    UserError
        There are not enough for all files.
    """
    rest = count - LEAST * len(cells)
    if rest < 0:
        raise UserError(f"--count must be at least {LEAST * len(cells)}, not {count}")
    total = sum(cells.values())
    exact = {key: rest * n / total for key, n in cells.items()}
    result = {place: LEAST + int(share) for place, share in exact.items()}
    for place in sorted(exact, key=lambda one: int(exact[one]) - exact[one]):
        result[place] += sum(result.values()) < count
    return result


def draw(targets: list[Target], count: int, seed: int, folder: Path) -> list[Mutant]:
    """Mutants of all designs; each design leaves its files in a folder of its name and content.

    Raises
    ------
    UserError
        `count` is less than what all files together need.
    """
    ready = {target.name: target.prepared(folder) for target in targets}
    n_cells = {name: cells(own / "stat.json") for name, own in ready.items()}
    modules = modules_by_file(targets)
    sizes = {key: sum(_of_classes(own, n_cells[key[0]]).values()) for key, own in modules.items()}
    by_file = shares(sizes, count)
    result: list[Mutant] = []
    for target in targets:
        files = {key[1]: own for key, own in modules.items() if key[0] == target.name}
        counts = {file: by_file[target.name, file] for file in files}
        result += _drawn(target, files, counts, seed, ready[target.name])
    return result


def _of_classes(modules: list[Module], n_cells: dict[str, int]) -> dict[str, int]:
    """Cells of the largest instance of each class."""
    result: dict[str, int] = {}
    for module in modules:
        result[module.source] = max(result.get(module.source, 0), n_cells[module.name])
    return result


def _drawn(
    target: Target, files: dict[str, list[Module]], counts: dict[str, int], seed: int, folder: Path
) -> list[Mutant]:
    script = [f"read_rtlil {READY}"]
    for k, (file, modules) in enumerate(files.items()):
        n = SPARE * counts[file]
        script.append(f"mutate -list {n} -seed {seed} -o list{k} {_selection(modules)}")
    lists = _made(folder, "list", "\n".join(script))
    found: list[Mutant] = []
    for k, (file, modules) in enumerate(files.items()):
        prints = {m.name: _digest(m.text) for m in modules}
        lines = (lists / f"list{k}").read_text().splitlines()
        chosen = [options for options in map(_options, lines) if options["port"] not in CLOCKS]
        found += [
            _mutant(options, target.name, file, len(found) + i, prints)
            for i, options in enumerate(chosen[: counts[file]], start=1)
        ]
    return found


def _made(ready: Path, name: str, script: str) -> Path:
    """The folder in which a script has worked on a design that is ready."""

    def work(folder: Path) -> None:
        (folder / READY).hardlink_to(ready / READY)  # Yosys sees its folder only
        yosys.run(script, folder, name)

    return cached(ready / f"{name}-{key(script)}", work)


def _selection(modules: list[Module]) -> str:
    """Everything in them but what memories start with, which has to stay a constant."""
    names = [module.name for module in modules]
    return " ".join([*names, *["%u"] * (len(names) - 1), "t:$meminit*", "%d"])


def _options(line: str) -> dict[str, str]:
    """Options of a line of the list; of several places the last one in the RTL, the cell's."""
    words = line.split()[1:]
    pairs = list(zip(words[::2], words[1::2], strict=True))
    places = [relative(value) for name, value in pairs if name == "-src"]
    inside = [place for place in places if place.startswith("hw/")]
    return {name.lstrip("-"): value for name, value in pairs} | {"src": "".join(inside[-1:])}


def _mutant(
    options: dict[str, str], design: str, file: str, number: int, prints: dict[str, str]
) -> Mutant:
    return Mutant(
        design=design,
        number=number,
        file=file,
        module=options["module"],
        cell=options["cell"],
        port=options["port"],
        bit=int(options["portbit"]),
        mode=options["mode"],
        control_bit=options.get("ctrlbit", ""),
        source=options["src"],
        wire=f"{options['wire']}[{options['wirebit']}]" if "wire" in options else "",
        fingerprint=prints[options["module"]],
    )


def verilog(target: Target, mutants: Iterable[Mutant], ready: Path) -> str:
    """Verilog of a design, where `Target.prepared` left it, with all its mutants asleep."""
    script = [
        f"read_rtlil {READY}",
        f"add -wire {CONTROL} {CONTROL_WIDTH} {target.top}",
        *(mutant.switched for mutant in mutants),
        "write_verilog -noattr mutated.v",
    ]
    return (_made(ready, "mutate", "\n".join(script)) / "mutated.v").read_text()


def digest(mutants: Iterable[Mutant]) -> str:
    """Of mutants and the RTL around them."""
    return _digest("\n".join(f"{mutant.name} {mutant.fingerprint}" for mutant in mutants))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
