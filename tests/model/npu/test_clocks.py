"""Clocks of a time step, by hand."""

import numpy as np
import pytest

from model.npu.clocks import (
    STEP_OVERHEAD,
    Clocks,
    back_to_back,
    filled_blocks,
    used_groups,
)
from model.npu.config import CONFIGS


def test_overhead_is_within_the_contract() -> None:
    assert STEP_OVERHEAD == 9
    assert STEP_OVERHEAD <= 12


@pytest.mark.parametrize(
    ("config", "n_neurons", "groups"),
    [
        ("tiny", 1, 1),
        ("tiny", 4, 1),
        ("tiny", 5, 2),
        ("tiny", 16, 4),
        ("poppins", 16, 1),
        ("poppins", 17, 2),
        ("poppins", 128, 8),
        ("odin", 256, 16),
        ("large", 256, 8),
    ],
)
def test_groups_of_one_population(build, config: str, n_neurons: int, groups: int) -> None:
    network = build([{}] * n_neurons)
    assert used_groups(network, CONFIGS[config]).tolist() == [groups]


def test_every_population_has_as_many_groups_as_there_are_populations(build) -> None:
    network = build([{}] * 12, populations=(1, 2, 9))
    assert used_groups(network, CONFIGS["large"]).tolist() == [3, 3, 3]
    network = build([{}] * 10, populations=(1, 9))
    assert used_groups(network, CONFIGS["tiny"]).tolist() == [2, 3]


@pytest.fixture
def network(build):
    """Populations of 2 and 3 groups on 4 lanes; who reaches which groups is in the comments."""
    return build(
        [{}] * 20,
        populations=(8, 12),
        axons=(2, 0),
        recurrent=[
            *((0, post, 1) for post in (0, 3, 4, 7)),  # both groups of 0
            (1, 2, -1),  # group 0 of 0
            (2, 6, 0),  # a weight of 0 is no connection
            *((1, post, 1) for post in (8, 15, 19)),  # all groups of 1
            (9, 19, 1),  # group 2 of 1
        ],
        external=[(0, 5, 1)],  # group 1 of 0
    )


def test_filled_blocks(network) -> None:
    first, second = (filled_blocks(network, CONFIGS["tiny"], p) for p in (0, 1))
    assert np.argwhere(first).tolist() == [[0, 0], [0, 1], [1, 0], [20, 1]]
    assert np.argwhere(second).tolist() == [[1, 0], [1, 1], [1, 2], [9, 2]]
    assert (len(first), len(second)) == (22, 22)


@pytest.mark.parametrize(
    ("fired", "axons", "slots"),
    [
        ((), (), (2, 3)),
        ((0,), (), (4, 3)),
        ((1,), (), (3, 6)),
        ((2,), (), (2, 3)),
        ((0, 1, 9), (), (5, 7)),
        ((), (0,), (3, 3)),
        ((), (1,), (2, 3)),
        ((0, 1), (0, 1), (6, 6)),
        (tuple(range(20)), (0, 1), (6, 7)),
    ],
)
def test_blocks_without_weights_take_no_clocks(network, fired, axons, slots) -> None:
    spikes = np.zeros((1, 20), np.bool_)
    spikes[0, list(fired)] = True
    events = np.array([(0, axon) for axon in axons], np.int64).reshape(-1, 2)
    clocks = Clocks(network, CONFIGS["tiny"]).of_steps(spikes, events)
    assert clocks.tolist() == [max(slots) + 9]
    # Groups of 32 lanes: one for each population, but two as there are two populations.
    one = Clocks(network, CONFIGS["large"])
    assert one.groups.tolist() == [2, 2]
    assert one.blocks.max() == 1


def test_dense_rows_take_a_clock_in_each_group(build) -> None:
    everybody = range(256)
    network = build([{}] * 256, recurrent=[(3, post, 1) for post in everybody])
    clocks = Clocks(network, CONFIGS["odin"])
    spikes = np.zeros((3, 256), np.bool_)
    spikes[1, 3] = True
    spikes[2] = True
    assert clocks.of_steps(spikes, np.zeros((0, 2), np.int64)).tolist() == [25, 41, 41]


def test_steps_wait_for_the_spikes_of_the_one_before() -> None:
    clocks, spikes = np.array([20, 20, 20, 20]), np.array([300, 15, 16, 7])
    assert back_to_back(clocks, spikes).tolist() == [20, 305, 20, 21]
