"""`kenyon prove`."""

import json

from hw.bus.axi_lite import AXI4LiteBridge
from tb.formal.harness import Harness, Proof
from tb.formal.proofs import PROOFS

QUICK = "axi_lite_progress"


def test_lists_all(kenyon) -> None:
    result = kenyon("prove", "--list", "--json")
    assert result.exit_code == 0
    listed = json.loads(result.stdout)["proofs"]
    assert [proof["name"] for proof in listed] == list(PROOFS)
    bounded = {f"first {clocks} clocks" for clocks in (3, 8, 9, 16)}
    assert {proof["kind"] for proof in listed} == {"unbounded", *bounded}


def test_proves(kenyon) -> None:
    result = kenyon("prove", QUICK, "--mutants", "1", "--json")
    assert result.exit_code == 0
    values = json.loads(result.stdout)
    assert (values["passed"], values["failed"], values["not_run"]) == (1, 0, 0)
    (proof,) = values["proofs"]
    assert proof["passed"]
    assert set(proof["covers"]) == {"read_waited_for_its_turn", "write_waited_for_its_turn"}
    assert len(proof["mutants"]) == 1


def test_table(kenyon) -> None:
    result = kenyon("prove", QUICK)
    assert result.exit_code == 0
    assert "2 of 2" in result.stdout
    assert result.stdout.endswith("1 proved, 0 failed\n")


def test_failure(kenyon, monkeypatch) -> None:
    def state(h: Harness) -> None:
        bridge = h.block(AXI4LiteBridge())
        h.always("nothing_is_taken", ~bridge.axi.arready)
        h.reached("both_at_once", bridge.axi.arready & bridge.axi.awready)

    wrong = Proof(name="wrong", says="", state=state, depth=4, reach=4)
    monkeypatch.setitem(PROOFS, "wrong", wrong)
    result = kenyon("prove", "wrong")
    assert result.exit_code == 1
    assert "wrong FAIL: nothing_is_taken /" in result.stdout
    assert "trace.vcd\n" in result.stdout
    assert "0 of 1" in result.stdout
    assert result.stdout.endswith("0 proved, 1 failed\n")


def test_unknown_name(kenyon) -> None:
    result = kenyon("prove", "nothing")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: proof must be one of soma, post_synaptic, ")
    assert result.stderr.endswith(", not nothing\n")
