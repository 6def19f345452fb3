"""Clocks of a time step, by hand."""

import numpy as np
import pytest

from model.npu.clocks import STEP_OVERHEAD, step_clocks, used_groups
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


@pytest.mark.parametrize(
    ("rows", "clocks"),
    [
        ((0, 0), 3 + 9),
        ((1, 0), 2 * 2 + 9),
        ((0, 1), 2 * 3 + 9),
        ((2, 1), 2 * 3 + 9),
        ((3, 1), 4 * 2 + 9),
        ((100, 200), 201 * 3 + 9),
    ],
)
def test_the_slowest_population_decides(build, rows: tuple[int, int], clocks: int) -> None:
    """Populations of 2 and 3 groups on 4 lanes: (rows + 1) * groups each, plus 9."""
    network = build([{}] * 20, populations=(8, 12))
    assert step_clocks(network, CONFIGS["tiny"], np.array([rows], np.int32)).tolist() == [clocks]


def test_many_rows_do_not_overflow(build) -> None:
    rows = np.array([[2**31 - 1]], np.int32)
    network = build([{}] * 256)
    assert step_clocks(network, CONFIGS["odin"], rows).tolist() == [2**31 * 16 + 9]
