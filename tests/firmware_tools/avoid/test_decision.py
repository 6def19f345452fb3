"""Decisions: the same on host and golden model, and what they are made of."""

from dataclasses import replace

import numpy as np
import pytest

from firmware_tools.avoid import CELLS, CENTRE, DIRECTIONS, MODES, N_CELLS, N_MODES, opponent
from firmware_tools.avoid.clips import NOTHING, generate
from firmware_tools.avoid.decision import (
    PERCEPTION,
    Decision,
    compiled,
    inputs_of,
    mind,
    on_model,
    winner,
    work,
)
from firmware_tools.avoid.energy import PJ_PER_CLOCK, PJ_PER_MAC, PJ_PER_OPERATION, PJ_PER_UPDATE
from firmware_tools.avoid.flying import action_of
from firmware_tools.avoid.measuring import Setup
from firmware_tools.avoid.populations import (
    CELL_POPULATION,
    STEPS,
    bridge,
    builder,
    scaled_bridge,
)
from firmware_tools.errors import UserError
from model.bridge import BridgeError
from model.config import CHIPS
from model.mars import network_file
from model.mars.network import FeatureType
from model.npu.engine import Engine

TINY = CHIPS["kenyon-tiny"]


def same(one: Decision, other: Decision) -> bool:
    return (
        (one.outputs == other.outputs).all()
        and (one.spikes == other.spikes).all()
        and (one.mode_counts == other.mode_counts).all()
        and (one.cell_counts == other.cell_counts).all()
        and (one.frame_clocks, one.bridge_clocks) == (other.frame_clocks, other.bridge_clocks)
    )


def test_host_and_golden_model_agree() -> None:
    frames = next(generate(1, 2)).frames[-4:]
    setup = Setup("cnn", TINY, mind())
    fast, model = setup.decide(frames, "fast"), setup.decide(frames, "model")
    assert len(fast) == len(model) == 3
    assert all(same(a, b) for a, b in zip(fast, model, strict=True))
    assert {one.outputs.shape for one in fast} == {(N_MODES + N_CELLS,)}
    assert all(one.clocks > one.frame_clocks > 1000 for one in fast)
    spent = setup.work(fast)
    assert spent.macs > 1_000_000
    assert spent.updates == STEPS * (N_MODES + 1 + N_CELLS)


def test_perception_is_right_on_pictures_that_it_was_not_trained_on() -> None:
    setup = Setup("cnn", TINY, mind())
    clips = list(generate(16, 11))
    last = [setup.decide(clip.frames[-3:], "fast")[-1] for clip in clips]
    assert sum(one.mode == clip.mode for one, clip in zip(last, clips, strict=True)) >= 15
    right = sum(one.direction == clip.direction for one, clip in zip(last, clips, strict=True))
    assert right >= 13


def test_inputs() -> None:
    frames = np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    assert inputs_of(frames)[:, :, 0, 0].tolist() == [[0, 1], [1, 2]]


def spikes_of(outputs: dict[int, float], steps: int = STEPS) -> np.ndarray:
    """Spikes of all neurons, (steps, 22), under results, of which 1 makes e times as likely."""
    network, through = builder().build(), scaled_bridge(1 / 256)
    values = np.full(N_MODES + N_CELLS, -256)
    for k, value in outputs.items():
        values[k] = round(256 * value)
    from model.bridge import stimuli

    engine = Engine(network)
    engine.set_bias(stimuli(through, values, network).bias)
    none = np.zeros(0, np.int64)
    return np.concatenate([engine.step(none).spikes for _ in range(steps)])


CELL_FIRST = N_MODES + 1
"""Behind the modes stands their inhibitor."""


def test_the_population_fits_the_smallest_chip() -> None:
    for config in ("tiny", "poppins"):
        assert builder().on_chip(config).fits


@pytest.mark.parametrize("mode", range(N_MODES), ids=MODES)
def test_a_mode_silences_its_opponent(mode) -> None:
    alone = spikes_of({opponent(mode): 3.0}).sum(0)
    against = spikes_of({mode: 5.0, opponent(mode): 3.0}).sum(0)
    assert against[mode] > 2 * against[opponent(mode)]
    assert against[opponent(mode)] < alone[opponent(mode)] / 2
    assert against[:N_MODES].argmax() == mode


def test_motion_steers_the_obstacles() -> None:
    """Of two cells that see as little, the one that lies ahead counts more."""
    left, right = CELLS.index("middle left"), CELLS.index("middle right")
    seen = {N_MODES + left: 2.0, N_MODES + right: 2.0}
    for mode, ahead in (("left", left), ("right", right)):
        counts = spikes_of({**seen, MODES.index(mode): 6.0}).sum(0)[CELL_FIRST:]
        assert counts.argmax() == ahead
    still = spikes_of(seen).sum(0)[CELL_FIRST:]
    back = spikes_of({**seen, MODES.index("backward"): 6.0}).sum(0)[CELL_FIRST:]
    assert back.sum() < still.sum()


def test_silence() -> None:
    assert not spikes_of({}).any()


def test_winner() -> None:
    assert winner(np.array([0, 3, 3])) == 1
    assert winner(np.zeros(3, np.int64)) == 3


def decision(**cells: int) -> Decision:
    counts = np.zeros(N_CELLS, np.int64)
    for name, count in cells.items():
        counts[CELLS.index(name.replace("_", " "))] = count
    modes = np.zeros(N_MODES, np.int64)
    return Decision(np.zeros(21, np.int64), modes, counts, None, None, None)


def test_where_to_fly() -> None:
    assert action_of(decision()) == 0
    assert decision().direction == NOTHING
    for name, action in (
        ("inner_up", 2),
        ("outer_down", 1),
        ("middle_left", 4),
        ("inner_right", 3),
    ):
        assert action_of(decision(**{name: 3})) == action
    # In the centre: where least spikes.
    assert action_of(decision(centre=9, inner_up=2, outer_up=1, inner_down=3, inner_right=1)) == 3
    assert decision(centre=9).direction == DIRECTIONS.index("centre")
    assert decision(centre=9).cell == CENTRE
    assert decision(centre=9).clocks is None


def test_work_counts_weights() -> None:
    """A mode's spike reaches 9 neurons of its own and 13 of the obstacle population."""
    network = builder().build()
    spikes = np.zeros((STEPS, network.n_neurons), np.bool_)
    spikes[3, 0] = spikes[4, CELL_FIRST] = spikes[5, CELL_FIRST] = True
    one = replace(decision(), spikes=spikes, frame_clocks=1, bridge_clocks=200)
    spent = work(network, [one], macs=1000)
    assert spent.operations == 9 + 13 + 2 * 13
    assert spent.perception_nj == pytest.approx(PJ_PER_MAC)
    expected = (48 * PJ_PER_OPERATION + 50 * 22 * PJ_PER_UPDATE + 200 * PJ_PER_CLOCK) / 1000
    assert spent.populations_nj == pytest.approx(expected)


def test_bridge() -> None:
    through = bridge(mind().perception)
    assert through.population == CELL_POPULATION
    assert [(e.population, e.index) for e in through.entries] == [
        *((0, k) for k in range(8)),
        *((1, k) for k in range(13)),
    ]


def test_networks_that_are_no_perception(tmp_path) -> None:
    perception = mind().perception
    last = perception.layers[-1]
    short = replace(last, weight=last.weight[:20], bias=last.bias[:20])
    network = replace(perception, layers=(*perception.layers[:-1], short))
    with pytest.raises(BridgeError, match="must have 21 results, one for each mode and each cell"):
        bridge(network)
    kind = FeatureType((2, 32, 32), 4, False)
    path = tmp_path / "other.npz"
    network_file.dump(replace(perception, input_type=kind), path)
    with pytest.raises(UserError, match=r"two frames, \(2, 32, 32\) of 8 bits without a sign, not"):
        mind(path)
    assert PERCEPTION.stat().st_size < 200_000


def test_golden_model_by_itself() -> None:
    """`on_model` begins each clip with silent populations."""
    frames = next(generate(1, 5)).frames[-2:]
    chosen = mind()
    image = compiled(chosen, TINY)
    (first,), (again,) = (list(on_model(chosen, TINY, image, frames)) for _ in range(2))
    assert same(first, again)
