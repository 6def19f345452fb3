"""The prover itself: what it reports of statements that do not hold."""

from pathlib import Path

import pytest
from amaranth.hdl import Module, Mux
from amaranth.lib.wiring import Component, In, Out

from tb.formal import prover
from tb.formal.harness import Harness, Proof
from tb.formal.prover import Prover


class Counter(Component):
    """Counts to 5 and begins again."""

    step: In(1)
    count: Out(3)

    def elaborate(self, _platform):
        m = Module()
        with m.If(self.step):
            m.d.sync += self.count.eq(self.count + 1)
            with m.If(self.count == 5):
                m.d.sync += self.count.eq(0)
        return m


def proof(most: int, reached: int, **parameters: object) -> Proof:
    """States that the counter stays below a limit, and reaches another."""

    def state(h: Harness) -> None:
        counter = h.block(Counter())
        h.always("stays_below", counter.count <= most)
        h.reached("gets_there", counter.count == reached)

    return Proof(
        **{"name": "counter", "says": "", "state": state, "depth": 2, "reach": 8} | parameters
    )


def test_holds() -> None:
    """A statement that is inductive holds without bound."""
    outcome = Prover(proof(5, 5)).prove()
    assert outcome.passed
    assert outcome.cover.properties == ["gets_there"]


def test_fails() -> None:
    """A statement that does not hold names itself and the waves that show it."""
    outcome = Prover(proof(4, 4, depth=7)).prove()
    assert not outcome.passed
    assert outcome.prove.properties == ["stays_below"]
    assert Path(outcome.prove.trace).exists()
    assert "FAIL: stays_below" in outcome.reason


def test_late_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A proof that had too little time is tried again by the next call."""
    monkeypatch.setattr(prover, "CACHE", tmp_path)
    late = Prover(proof(5, 5))
    with monkeypatch.context() as patch:
        patch.setattr(prover, "_solve", lambda _: prover.Run(prover.LATE, [], "", 0.0))
        assert not late.prove().passed
    assert late.prove().passed


def test_too_short() -> None:
    """A bounded proof holds only as far as it looks."""
    assert Prover(proof(4, 4, depth=5, bounded=True)).prove().passed
    assert not Prover(proof(4, 4, depth=6, bounded=True)).prove().passed


def test_not_reached() -> None:
    """A proof whose cover is out of reach is none."""
    outcome = Prover(proof(5, 6)).prove()
    assert outcome.prove.status == "PASS"
    assert not outcome.passed
    assert outcome.reason == "not reached: gets_there"


def test_inputs_exist() -> None:
    """A misspelled input does not stay free in silence."""
    with pytest.raises(ValueError, match="inputs must be ports of the block, not stop"):
        Harness().block(Counter(), stop=0)


def test_clock() -> None:
    """The clock is a port: without it nothing would move."""
    assert "wire width 1 input" in proof(5, 5).harness().rtlil()


def test_mutants() -> None:
    """Every bit of a counter matters to what says all about it."""

    def state(h: Harness) -> None:
        counter = h.block(Counter())
        count = h.register("expected", 3)
        h.next(count, Mux(count == 5, 0, count + 1), counter.step)
        h.always("equal", counter.count == count)
        h.reached("turns", counter.count == 5)

    mutants = list(Prover(proof(5, 5, state=state)).mutants(3))
    assert [mutant.refuted for mutant in mutants] == [True] * 3
