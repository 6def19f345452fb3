"""How `kenyon ppa` shows areas, and what it refuses; needs no library."""

from firmware_tools.commands.ppa import areas
from firmware_tools.silicon.report import Area


def test_modules_stand_below_what_holds_them() -> None:
    table = areas(
        "chip",
        [
            Area("", 1, 24, 0),
            Area("a", 2, 24, 0),
            Area("a.b.c", 3, 24, 1200),
            *(Area(f"a.b.c.lane_{k}", 4, 24, 0) for k in range(3)),
            Area("a.b.c.lane_3", 5, 24, 0),
            Area("ab", 6, 24, 0),
        ],
    )
    names, cells, _, gates, memory = (list(column.cells) for column in table.columns)
    assert names == ["(top)", "a", "  b.c", "    lane x3", "    lane_3", "ab"]
    assert cells == ["1", "2", "3", "4", "5", "6"]
    assert set(gates) == {"1"}
    assert memory == ["", "", "1,200", "", "", ""]


def test_glitches_are_of_populations(kenyon) -> None:
    result = kenyon("ppa", "-c", "mars-tiny", "--glitches")
    assert result.exit_code == 2
    assert "--glitches must go with a chip of populations alone, not mars-tiny" in result.stderr
