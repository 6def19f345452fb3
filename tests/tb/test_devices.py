"""Faulty memories and adapted tables on the RTL, against the golden machine."""

import numpy as np
import pytest

from firmware_tools.adaptation.moments import statistics
from firmware_tools.mars.inference import DONE
from firmware_tools.mars.pass_difference import Compared, compare_frame
from firmware_tools.mars.regression import Network, random_case, random_spiking_case
from model.mars import frame
from model.mars.config import CONFIGS, KERNELS
from model.mars.devices.bit_cells import Cells
from model.mars.devices.device import parse
from model.mars.devices.execution import NetworkArrays
from model.mars.devices.faults import CELLS, Faults
from model.mars.image import Image
from model.mars.layout import Ints
from model.mars.machine import HALF, Writes
from model.mars.mapper import compile_network
from model.mars.network import Conv, Dense
from model.mars.patch import patch
from model.mars.random_network import random_input
from tb.mars import cosim
from tb.mars.cosim import Frame, FrameTrace

TINY = CONFIGS["mars-tiny"]
WITH_TABLES = (9, 17, 26, 27, 36)
"""Seeds of random networks that have lookup tables."""


def written(writes: Writes) -> np.ndarray:
    """Words, of halves that are not written 0."""
    halves = writes.word.view("<u4").reshape(-1, 2)
    return halves * (writes.halves[:, np.newaxis] >> np.arange(2) & 1)


def assert_golden(
    image: Image, features: Ints, trace: FrameTrace, cells: Cells | None = None
) -> None:
    """Every value, every word and every clock of a frame."""
    golden = frame.run_frame(image, features, cells=cells)
    assert trace.result.status == DONE
    for one, record in zip(golden.passes, trace.passes, strict=True):
        # With 8-bit weights nothing takes the upper lanes.
        lanes = HALF if one.program.descriptor.wide else KERNELS
        np.testing.assert_array_equal(one.values[:, :lanes], record.values[:, :lanes])
        np.testing.assert_array_equal(written(one.writes), written(record.writes))
        np.testing.assert_array_equal(one.writes.offset, record.writes.offset)
        assert one.clocks.end == record.end
    np.testing.assert_array_equal(golden.result, trace.output)


def test_bits() -> None:
    """Flipped and stuck bits of each memory, some networks one after the other."""
    frames = []
    for memory in ("weights", "multipliers", "input", "tables"):
        faults = Faults(flips=0.02, stuck0=0.02, stuck1=0.02, memory=memory)
        for seed in WITH_TABLES if memory == "tables" else (3, 9):
            case = random_case(TINY, seed)
            key = {"seed": seed, "trial": 0}
            image = faults.image(case.image, **key)
            features = faults.features(case.network.input_type, case.features, **key, image=0)
            assert np.array_equal(image.lines, case.image.lines) == (memory == "input")
            assert np.array_equal(features, case.features) == (memory != "input")
            frames.append(Frame(image, features))
    for one, trace in zip(frames, cosim.run(TINY, frames), strict=True):
        assert_golden(one.image, one.features, trace)


@pytest.mark.full  # a simulator of its own
@pytest.mark.parametrize("memory", CELLS)
def test_cells_of_the_chip(memory: str) -> None:
    """Feature memories, membranes in them, and macros whose cells are wrong; networks in turn."""
    faults = Faults(flips=0.002, stuck0=0.002, stuck1=0.002, memory=memory)
    frames, cells, n_changed, n_stored = [], None, 0, 0
    for case in cases_without_largest():
        cells = faults.cells(case.image, seed=5, trial=0)
        good = frame.run_frame(case.image, case.features)
        bad = frame.run_frame(case.image, case.features, cells=cells)
        pairs = zip(good.passes, bad.passes, strict=False)
        n_changed += any(not np.array_equal(a.values, b.values) for a, b in pairs)
        n_stored += any(one.stores is not None for one in good.passes)
        frames.append(Frame(case.image, case.features))
    assert n_changed > len(frames) / 2
    assert n_stored > 1
    for one, trace in zip(frames, cosim.run(TINY, frames, cells=cells), strict=True):
        assert_golden(one.image, one.features, trace, cells)


def cases_without_largest() -> list[Network]:
    """Random networks, spiking ones whose membranes are stored among them."""
    cases = [random_case(TINY, seed) for seed in range(30, 42)]
    cases += [random_spiking_case(TINY, seed) for seed in range(12)]
    return [c for c in cases if not any(p.descriptor.maximum for p in c.image.passes)]


def test_tables_are_rewritten() -> None:
    """One chip, one program: between two frames the host rewrites some of its lines in memory.

    The first frame is the network as it was, the second one the adapted network, the third one
    the network as it was again. Weights are written once.
    """
    frames, expected = [], []
    device = parse("fefet:rows=64")
    for seed in (4, 8):
        case = random_case(TINY, seed)
        images = random_input(case.network, seed, 24)
        arrays = NetworkArrays(case.network, device, seed=seed)
        adapted = statistics(case.network, arrays, images)
        after = compile_network(adapted, TINY)
        there, back = patch(case.image, after), patch(after, case.image)
        assert 0 < len(there) < len(after.lines)
        np.testing.assert_array_equal(there.apply(case.image.lines), after.lines)
        for one, its in zip(case.network.layers, adapted.layers, strict=True):
            if isinstance(one, Conv | Dense):
                np.testing.assert_array_equal(one.weight, its.weight)
        for network, image, lines in (
            (case.network, case.image, None),
            (adapted, after, there),
            (case.network, case.image, back),
        ):
            frames.append(Frame(image, case.features, patch=lines))
            expected.append(network)
    for network, one, trace in zip(expected, frames, cosim.run(TINY, frames), strict=True):
        difference = compare_frame(network, one.image, one.features, trace, Compared())
        assert not difference
        assert_golden(one.image, one.features, trace)
