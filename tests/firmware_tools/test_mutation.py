"""The mutation score: mutants that must be caught and one that cannot be, on the soma alone."""

import json
import re
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib.memory import Memory

from firmware_tools import regression
from firmware_tools.errors import UserError
from firmware_tools.jobs.local import Local
from firmware_tools.jobs.store import Store
from firmware_tools.mutation import score
from firmware_tools.mutation.equivalence import is_equivalent
from firmware_tools.mutation.mutants import LEAST, Mutant, draw, shares
from firmware_tools.mutation.score import CAUGHT, EQUIVALENT, HUNG, SURVIVED, Campaign, Outcome
from firmware_tools.mutation.targets import NUMBER, TARGETS, Target, modules_by_file
from hw.generate import ports
from hw.npu.soma import Soma
from tb.simulator import BenchFailure

SEED = 3


class SomaAlone(Elaboratable):
    """As in `tb.blocks`, with logic on `v` that changes nothing: v | (v & enable)."""

    def __init__(self) -> None:
        self.soma = Soma()
        self.v = Signal(8)

    def ports(self) -> dict:
        inner = {f"soma_{name}": port for name, port in ports(self.soma).items()}
        return {**inner, "soma_v": (self.v, None)}

    def elaborate(self, platform):  # noqa: ARG002
        m = Module()
        m.submodules.soma = self.soma
        m.d.comb += self.soma.v.eq(self.v | (self.v & self.soma.enable.replicate(8)))
        return m


class SomaTarget(Target):
    """The soma alone, under its own bench."""

    @cached_property
    def rtlil(self) -> str:
        alone = SomaAlone()
        return str(rtlil.convert(alone, name="blocks", ports=alone.ports(), emit_src=True))


SOMA = SomaTarget("soma", "blocks", ("soma",))


class Places(Elaboratable):
    """Logic that counts in some states, and in others does not."""

    def __init__(self) -> None:
        self.enable = Signal()
        self.data = Signal(4)
        self.other = Signal(4)
        self.word = Signal(4)
        self.last = Signal()
        self.below = Signal()
        self.beyond = Signal()
        self.both = Signal()

    def ports(self) -> dict:
        ins, outs = [self.enable, self.data, self.other], [self.word, self.last, self.below]
        signals = [*ins, *outs, self.beyond, self.both]
        return {signal.name: (signal, None) for signal in signals}

    def elaborate(self, platform):  # noqa: ARG002
        m = Module()
        m.submodules.memory = memory = Memory(shape=4, depth=16, init=[])
        write, read = memory.write_port(), memory.read_port()
        count = Signal(4, init=3)
        with m.If(self.enable):
            m.d.sync += count.eq(Mux(count == 11, 3, count + 1))
        held = Signal(4)
        taken = Signal()
        m.d.sync += [taken.eq(self.enable), held.eq(Mux(self.enable, self.data, self.other))]
        written = Signal(4)
        place = Signal(4)
        m.d.comb += [
            self.last.eq(count == 9),
            self.below.eq(count == 2),
            self.beyond.eq(count == 12),
            self.both.eq(self.data.all() & self.data[0]),
            written.eq(Mux(taken, held, self.other)),
            place.eq(Mux(self.enable, self.data, self.other)),
            write.en.eq(taken),
            write.addr.eq(count),
            write.data.eq(written),
            read.en.eq(self.enable),
            read.addr.eq(place),
            self.word.eq(read.data),
        ]
        return m


class PlacesTarget(Target):
    """Alone, as a chip."""

    @cached_property
    def rtlil(self) -> str:
        places = Places()
        return str(rtlil.convert(places, name="places", ports=places.ports(), emit_src=True))


PLACES = PlacesTarget("places", "places")


class SomaBetween(SomaAlone):
    """Between other modules, so that what is counted through the whole design is different."""

    def elaborate(self, platform):  # noqa: ARG002
        m = Module()
        m.submodules.first = Places()
        m.submodules.soma = self.soma
        m.submodules.last = Places()
        m.d.comb += self.soma.v.eq(self.v | (self.v & self.soma.enable.replicate(8)))
        return m


class BetweenTarget(Target):
    """The soma between other modules."""

    @cached_property
    def rtlil(self) -> str:
        between = SomaBetween()
        return str(rtlil.convert(between, name="blocks", ports=between.ports(), emit_src=True))


def planted(number: int, mode: str, module: str, cell: str, port: str, bit: int = 0) -> Mutant:
    return Mutant("soma", number, "planted", module, cell, port, bit, mode, "", "", "", "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutation")


@pytest.fixture(scope="module")
def drawn(folder: Path) -> list[Mutant]:
    return draw([SOMA], LEAST, SEED, folder)


def test_mutants_are_drawn(drawn: list[Mutant], folder: Path) -> None:
    assert [mutant.number for mutant in drawn] == [1, 2, 3, 4, 5]
    assert {mutant.file for mutant in drawn} == {"hw/npu/soma.py"}
    assert {mutant.module for mutant in drawn} == {"blocks.soma"}
    assert len({mutant.name for mutant in drawn}) == LEAST
    assert not any(mutant.port.lower().endswith("clk") for mutant in drawn)
    assert all(re.match(r"hw/npu/soma.py:\d+$", mutant.source) for mutant in drawn if mutant.source)
    assert drawn == draw([SOMA], LEAST, SEED, folder)


def test_names_hold_while_the_module_is_the_same(folder: Path) -> None:
    """A reason for a survivor is found again, whatever has changed around its module."""
    between = BetweenTarget("between", "blocks")
    texts, cells = set(), set()
    for target in (SOMA, between):
        texts |= {module.text for module in target.modules if module.name == "blocks.soma"}
        ready = (target.prepared(folder) / "ready.il").read_text()
        body = ready.split("module \\blocks.soma\n")[1].split("\nend\n")[0]
        cells.add(tuple(re.findall(r"^  cell (\S+ \S+)$", body, re.M)))
    assert len(texts) == 1
    (names,) = cells
    assert any("proc_" in name for name in names)
    assert NUMBER.sub("", "blocks.rows$1813.unit.root$354") == "blocks.rows.unit.root"


def test_outcomes(drawn: list[Mutant], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All fates of a mutant, in one simulator."""
    ready = (SOMA.prepared(folder) / "ready.il").read_text()
    top = ready.split("module \\blocks\n")[1].split("\nend\n")[0]
    (redundant,) = re.findall(r"cell \$and (\$\S+)\n", top)
    dead = planted(6, "const0", "blocks", redundant, "Y")
    inverted = planted(7, "inv", "blocks", "soma", "spike")
    campaign = Campaign(folder, [*drawn, dead, inverted], {"soma": SOMA})
    assert campaign.needed([dead, inverted]) == [("soma", "soma")]
    campaign.build("soma", "soma")
    store = Store(folder / "jobs")
    trials = campaign.trials([dead, inverted, drawn[0]])
    outcomes = {o.mutant.number: o for o in score.outcomes(trials, Local(1), store)}
    assert outcomes[6].outcome == EQUIVALENT
    assert (outcomes[7].outcome, outcomes[7].bench) == (CAUGHT, "soma")
    assert outcomes[7].failure.startswith("tb.npu.tb_soma.")
    assert not is_equivalent(inverted, SOMA.prepared(folder))
    assert outcomes[1].outcome in {CAUGHT, EQUIVALENT}
    monkeypatch.setattr(Campaign, "outcome", None)
    again = list(score.outcomes(trials, Local(1), store))
    assert {o.mutant.number: o for o in again} == {
        number: replace(o, seconds=round(o.seconds, 3)) for number, o in outcomes.items()
    }
    monkeypatch.undo()
    monkeypatch.setattr(score, "MARGIN", 0)
    monkeypatch.setattr(score, "SPARE_CLOCKS", 5)
    (hung,) = score.outcomes(trials[:1], Local(1))
    assert (hung.outcome, hung.bench) == (HUNG, "soma")


@pytest.mark.parametrize(
    ("mode", "kind", "output", "port", "expected"),
    [
        ("const0", "eq", "beyond", "Y", True),  # a count that is never reached
        ("const0", "eq", "below", "Y", True),
        ("const0", "eq", "last", "Y", False),  # one that is, after six steps
        ("const1", "and", "both", "B", True),  # without a register
        ("const1", "and", "both", "A", False),
        ("inv", "mux", "written", "A", True),  # a word that is not written
        ("inv", "mux", "written", "B", False),
        ("inv", "mux", "place", "A", True),  # an address that is not read
        ("inv", "mux", "place", "B", False),
        ("inv", "dff", "held", "D", False),
        ("const1", "dff", "taken", "Q", False),  # a write that is none
    ],
)
def test_what_is_proved(
    folder: Path, mode: str, kind: str, output: str, port: str, *, expected: bool
) -> None:
    ready = PLACES.prepared(folder)
    drives = "Q" if kind == "dff" else "Y"
    pattern = rf"cell \${kind} (\S+)\n(?:    .*\n)*?    connect \\{drives} \\{output}\n"
    (cell,) = re.findall(pattern, (ready / "ready.il").read_text())
    mutant = Mutant("places", 1, "planted", "places", cell, port, 0, mode, "", "", "", "")
    assert is_equivalent(mutant, ready) == expected


def test_bench_that_fails_without_a_mutant(
    drawn: list[Mutant], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = Campaign(folder, drawn[:4], {"soma": SOMA})
    monkeypatch.setattr(campaign, "build", lambda *_: folder)
    monkeypatch.setattr(campaign, "_run", lambda *_: "tb.npu.tb_soma.boundaries")
    text = "soma must pass on soma without a mutant: tb.npu.tb_soma.boundaries"
    with pytest.raises(BenchFailure, match=text):
        campaign.prepare("soma", "soma")


def test_shares() -> None:
    assert shares({("a", "x"): 0, ("a", "y"): 10, ("b", "z"): 30}, 20) == {
        ("a", "x"): 5,
        ("a", "y"): 6,
        ("b", "z"): 9,
    }
    assert sum(shares({("a", str(n)): n for n in range(29)}, 300).values()) == 300
    with pytest.raises(UserError, match="--count must be at least 10, not 9"):
        shares({("a", "x"): 0, ("a", "y"): 10}, 9)


@pytest.mark.full
def test_every_file_is_mutated() -> None:
    """All files of the RTL with an `elaborate`, each in one design, under a bench that exists.

    Not the top of boards: wires, which the tests through its pins see.
    """
    modules = modules_by_file(list(TARGETS.values()))
    files = [file for _, file in modules]
    root = Path(score.__file__).parents[2]
    expected = [
        path.relative_to(root).as_posix()
        for path in (root / "hw").rglob("*.py")
        if "def elaborate" in path.read_text() and path != root / "hw" / "board" / "top.py"
    ]
    assert sorted(files) == sorted(expected)
    for (design, _), own in modules.items():
        for module in own:
            for bench in TARGETS[design].bench_names(module.name):
                assert any(bench in names for names in regression.names().values()), module.name
                assert score.Bench(bench).config in {"tiny", "mars-tiny"}


def test_score(monkeypatch: pytest.MonkeyPatch) -> None:
    mutants = [replace(planted(k, "inv", "m", "c", "Y"), fingerprint="f") for k in range(6)]
    fates = [CAUGHT, HUNG, CAUGHT, EQUIVALENT, SURVIVED, SURVIVED]
    mutants[4] = replace(mutants[4], bit=1)
    explained = {("inv m c.Y[1]", "f"): "nobody reads it", ("inv m c.Y[0]", "g"): "another RTL"}
    monkeypatch.setattr(score, "explanations", lambda: explained)
    result = score.Score.of([Outcome(m, fate) for m, fate in zip(mutants, fates, strict=True)])
    assert result == score.Score(mutants=6, caught=3, hung=1, equivalent=1, explained=1)
    assert result.survived == 1
    assert result.share == 3 / 4


def test_explanations_are_complete() -> None:
    entries = json.loads(score.EXPLANATIONS.read_text())
    assert all(set(e) == {"mutant", "fingerprint", "reason"} for e in entries)
    assert len(score.explanations()) == len(entries)
