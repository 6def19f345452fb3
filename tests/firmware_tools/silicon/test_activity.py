from io import BytesIO

import pytest

from firmware_tools.silicon import activity

HEAD = b"""\
$timescale 1ps $end
$scope module kenyon $end
$var wire 1 ! clk $end
$var wire 4 # bus [3:0] $end
$scope module npu $end
$var wire 1 ! clk $end
$var wire 1 " u1_.Y $end
$var wire 1 % enable $end
$upscope $end
$scope module activity $end
$var wire 1 ? dump $end
$upscope $end
$upscope $end
$enddefinitions $end
#0
0!
1"
b0101 #
0%
1?
"""


def count(changes: bytes) -> activity.Activity:
    return activity.count(BytesIO(HEAD + changes), {"npu.enable"})


def test_toggles_of_every_bit() -> None:
    found = count(b'#5\n1!\nb0110 #\n#10\n0!\n0"\n#15\n1!\n1"\nb1 #\n#20\n0!\n')
    assert found.clocks == 2
    assert found.toggles["clk"] == found.toggles["npu.clk"] == 4
    assert found.toggles["npu.u1_.Y"] == 2
    assert [found.toggles[f"bus[{k}]"] for k in range(4)] == [2, 2, 1, 0]


def test_first_values_are_no_toggles() -> None:
    found = count(b"#5\n1!\n#10\n0!\n")
    assert found.toggles["npu.u1_.Y"] == 0
    assert [found.toggles[f"bus[{k}]"] for k in range(4)] == [0] * 4


def test_what_is_1_before_the_edge_counts() -> None:
    # Set by one edge and cleared by the next: one clock.
    found = count(b"#5\n1!\n1%\n#10\n0!\n#15\n1!\n0%\n#20\n0!\n#25\n1!\n#30\n0!\n")
    assert found.ones == {"npu.enable": 1}


def test_what_comes_behind_the_dump_does_not_count() -> None:
    found = count(b"#5\n1!\n#10\n0!\n#15\n0?\n1!\n#20\n0!\n#25\n1!\n")
    assert found.clocks == 1


def test_all_of_the_last_time_counts() -> None:
    # Simulators write what changes at one time in an order of their own.
    for last in (b"0?\n1!\n1%\n", b"1!\n1%\n0?\n"):
        found = count(b"#5\n1!\n#10\n0!\n#15\n" + last + b"#20\n0!\n")
        assert (found.toggles["clk"], found.toggles["npu.enable"]) == (3, 1)


def test_names_of_icarus() -> None:
    # Names that are no words have a backslash before them.
    head = HEAD.replace(b"module npu ", rb"module \npu.memory ").replace(b"u1_", rb"\u1_")
    found = activity.count(BytesIO(head + b'#5\n1!\n0"\n#10\n0!\n'), set())
    assert found.toggles["npu.memory.u1_.Y"] == 1


def test_no_definitions() -> None:
    with pytest.raises(ValueError, match="must have definitions"):
        activity.count(BytesIO(b"#0\n"), set())
