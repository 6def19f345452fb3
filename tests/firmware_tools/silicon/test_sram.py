import math

import pytest

from firmware_tools.silicon.sram import Sram

SMALL, LARGE = Sram(256, 32), Sram(4096, 32)


def test_by_hand() -> None:
    # 146 F2 of 180 nm, 55 % of the macro.
    assert SMALL.area == pytest.approx(256 * 32 * 146 * 0.18**2 / 0.55)
    # Two transistors of 2.08 F and 0.97 nA/um leak in a cell, at 1.8 V.
    assert SMALL.leakage == pytest.approx(256 * 32 * 2 * 2.08 * 0.18 * 0.97e-3 * 1.8)
    # A bit line of 256 cells: half a drain and 2.628 um of wire each.
    width = 1.31 * 0.18
    drain = 2 * width * 0.45 + 0.25 * (width + 0.9) + 0.16 * width
    line = 256 * (drain / 2 + 0.28 * math.sqrt(146 * 0.18**2 * 1.46))
    sense = 14.7e-3 * (1.8 / 1.5) ** 2
    transport = 1.6 * math.sqrt(SMALL.area) * 0.28 * 1.8**2 / 4 / 1000
    cell = 2 * width * (1.328 + 0.32) + 0.28 * math.sqrt(146 * 0.18**2 / 1.46)
    word_line = 32 * cell * 1.8**2 / 1000
    bit = line * 1.8 * 0.2 / 1000 + sense + transport
    assert SMALL.read_energy == pytest.approx(1.2 * (32 * bit + word_line))


def test_larger_costs_more() -> None:
    for name in ("area", "leakage", "delay", "read_energy"):
        assert getattr(SMALL, name) < getattr(LARGE, name)


def test_only_written_bits_swing() -> None:
    assert LARGE.write_energy(0) < LARGE.write_energy(8) < LARGE.write_energy(32)
    step = LARGE.write_energy(8) - LARGE.write_energy(7)
    assert LARGE.write_energy(32) - LARGE.write_energy(31) == pytest.approx(step)


def test_two_ports_take_more_room() -> None:
    two = Sram(256, 32, two_port=True)
    assert two.area == pytest.approx(1.6 * SMALL.area)
    assert two.read_energy > SMALL.read_energy
