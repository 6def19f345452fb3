"""A few cells through graywolf, qrouter, Magic and netgen: run by `make test-silicon`."""

from dataclasses import replace
from pathlib import Path

import pytest

from firmware_tools.errors import UserError
from firmware_tools.silicon.layout import lvs, picture, placement, routing, tools, wires
from firmware_tools.silicon.layout.design import Design, Instance

pytestmark = pytest.mark.silicon

N_STAGES = 12


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "CACHE", tmp_path)


def ring_of_gates() -> Design:
    """Registers, each behind a gate of the two before; net 0 is the clock, 1 and 2 come in."""
    instances = []
    for k in range(N_STAGES):
        gate, register = 100 + k, 3 + k
        pins = {"A": 1 + k, "B": 2 + k, "Y": gate}
        instances.append(Instance(f"u{2 * k}", f"g{k}", "NAND2X1", pins))
        pins = {"CLK": 0, "D": gate, "Q": register}
        instances.append(Instance(f"u{2 * k + 1}", f"r{k}", "DFFPOSX1", pins))
    return Design(instances, {0, 1, 2, 2 + N_STAGES})


def test_a_layout_is_its_netlist(tmp_path: Path) -> None:
    design = ring_of_gates()
    # The first block is one row, and the rails of the other would meet it upside down.
    first = design.instances[: N_STAGES // 2]
    parts = {"a": first, "b": design.instances[len(first) :]}
    blocks = {name: design.part(part) for name, part in parts.items()}
    places = placement.place(blocks, lambda _what: None)
    assert {instance.name for instance in design.instances} <= places.keys()
    assert {places[instance.name].y for instance in first} == {0}
    routed = routing.route(design, places, lambda _what: None)
    text = (routed / routing.ROUTED).read_text()
    lengths = wires.lengths(text)
    assert lengths.keys() == design.nets.keys()
    # From one side of the core to the other, at least.
    width = max(place.right for place in places.values()) / 100
    assert sum(lengths[0].values()) > width / 2
    folder = lvs.compare(design, places, routed)
    assert 0 < lvs.coupled(folder) < 1
    assert picture.draw(design, places, text, tmp_path / "a.png").stat().st_size > 10_000

    # One pin elsewhere, and the comparison says so.
    first, *others = design.instances
    wrong = replace(first, pins={**first.pins, "A": 2, "B": 5})
    with pytest.raises(UserError, match="layout and netlist must be the same, see "):
        lvs.compare(Design([wrong, *others], design.border), places, routed)
