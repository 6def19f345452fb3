import json

import pytest

from firmware_tools.costs.published import AREAS, OPERATIONS, PUBLISHED, ours


def test_published_energies_make_the_published_efficiency():
    """The figures are of one operation; they were read off two drawings, up to 11 % apart."""
    for stated in PUBLISHED.values():
        energy = stated.lines + stated.converters + stated.cells
        assert 1000 / energy == pytest.approx(stated.tops_per_watt, rel=0.12)
    assert sum(AREAS.values()) == pytest.approx(0.61 * 1.161, rel=1e-3)


def test_our_figures_by_hand():
    own, area = ours(8, 6)
    adc = 1.67 * (130 / 32) * 1.8**2  # pJ
    assert own.converters == pytest.approx(2 * 128 * adc * 1000 / OPERATIONS)
    siemens = 1 + 39 * 0.25 / 2
    cells = 2 * 256 * 256 * 0.3**2 * siemens * 10 * 0.333  # fJ
    assert own.cells == pytest.approx(cells / OPERATIONS)
    drive = 2 * 256 * 0.41667 * (130 / 32) * 1.8**2 * 8 * 1000
    assert own.lines == pytest.approx(drive / OPERATIONS)
    assert own.tops == pytest.approx(48 * OPERATIONS / (2 * (10 + 8 * 130 / 32 / 1.2)) / 1000)
    assert area["cells"] == pytest.approx(256 * 256 * 48 * 0.13**2 * 1e-6)
    assert area["converters"] == pytest.approx(16 * 1200 * (130 / 32) ** 2 * 1e-6)


def test_command(kenyon):
    result = kenyon("bench", "devices", "--network", "neurram", "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["figures"]
    assert [row["in_bits"] for row in rows] == [2, 4, 6, 8]
    wrong = kenyon("bench", "devices", "--network", "neurram", "--device", "pcm")
    assert wrong.exit_code == 2
    assert "--device must be left out" in " ".join(wrong.output.split())
