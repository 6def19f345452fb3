"""Group-sets: which ones are kept, chosen and cleared."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.mars.group_sets import by_tap, choose_sets, clear_sets, kept_sets, n_kept_sets
from model.mars.network import Conv, Dense, FeatureType


@pytest.mark.parametrize(
    ("weight_bits", "place", "kept"),
    [
        (4, (0, 0, 0), (0, 0, 0)),
        (4, (15, 15, 1), (0, 0, 1)),
        (4, (16, 15, 1), (1, 0, 1)),
        (4, (16, 16, 2), (1, 1, 2)),
        (5, (7, 15, 0), (0, 0, 0)),
        (5, (8, 15, 0), (1, 0, 0)),
        (8, (16, 17, 2), (2, 1, 2)),
    ],
)
def test_set_of_a_weight(
    weight_bits: int, place: tuple[int, int, int], kept: tuple[int, int, int]
) -> None:
    weight = np.zeros((17, 18, 3), np.int64)
    weight[place] = -1
    sets = kept_sets(weight, weight_bits)
    assert sets.shape == (2 if weight_bits == 4 else 3, 2, 3)
    assert np.argwhere(sets).tolist() == [list(kept)]


def test_layers() -> None:
    source = FeatureType((17, 2, 3), 4, signed=False)
    weight = np.zeros((9, 17, 3, 3), np.int64)
    weight[8, 16, 2, 2] = weight[0, 0, 0, 0] = 1
    fields = {"input": "input", "bias": np.zeros(9, np.int64), "out_bits": 32, "out_signed": True}
    conv = Conv(name="c", weight=weight, weight_bits=5, **fields)  # type: ignore[arg-type]
    assert n_kept_sets(conv, source) == 2
    assert by_tap(conv, source)[8, 16, 8] == 1
    flat = np.zeros((9, 17, 2, 3), np.int64)
    flat[8, :, 1, 2] = 1
    dense = Dense(name="d", weight=flat.reshape(9, -1), weight_bits=4, **fields)  # type: ignore[arg-type]
    assert np.argwhere(kept_sets(by_tap(dense, source), 4)).tolist() == [[0, 0, 5], [0, 1, 5]]


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9)),
    bits=st.integers(2, 8),
    share=st.floats(0, 1),
    seed=st.integers(0, 1 << 32),
)
def test_exactly_the_chosen_sets_are_cleared(
    shape: tuple[int, int, int], bits: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-1, 2, shape) * (rng.random(shape) < 0.05)
    chosen = choose_sets(rng, weight, bits, share)
    assert chosen.sum() == round(share * chosen.size)
    cleared = clear_sets(weight, bits, chosen)
    np.testing.assert_array_equal(kept_sets(cleared, bits), ~chosen)
    assert (cleared != weight)[weight == 0].sum() <= chosen.size
