"""Clips frame by frame on the RTL of both chips: every output, spike, count and clock."""

import pytest

from firmware_tools.avoid import measuring
from firmware_tools.avoid.clips import N_FRAMES, generate
from firmware_tools.console import Terminal


@pytest.mark.full
@pytest.mark.parametrize(("config", "n"), [("kenyon-tiny", 1), ("kenyon", 3)])
def test_rtl_model_and_fast_engine_agree(config, n) -> None:
    setup = measuring.setup("cnn", config, None)
    setup.build_rtl(Terminal(json=True))
    for clip in generate(n, 0):
        rtl = setup.on_rtl(clip.frames)
        assert len(rtl) == N_FRAMES - 1
        for backend in ("fast", "model"):
            for one, other in zip(rtl, setup.decide(clip.frames, backend), strict=True):
                assert (one.outputs == other.outputs).all()
                assert (one.spikes == other.spikes).all()
                assert (one.mode_counts == other.mode_counts).all()
                assert (one.cell_counts == other.cell_counts).all()
                assert one.frame_clocks == other.frame_clocks
                assert one.bridge_clocks == other.bridge_clocks
