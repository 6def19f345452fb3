"""The chain of neurons against the reference's, which knows nothing of lanes."""

from typing import Any

import numpy as np
import pytest

from model.mars import spiking
from model.mars.layout import Descriptor, Header
from model.mars.lif import chain
from model.mars.neuron import Neuron


@pytest.mark.parametrize("groups_log2", [0, 1, 2])
@pytest.mark.parametrize("soft", [0, 1])
def test_chain_is_the_reference(groups_log2: int, soft: int) -> None:
    rng = np.random.default_rng(groups_log2 + 10 * soft)
    n_groups = 1 << groups_log2
    for _ in range(60):
        n_steps, bits = int(rng.integers(1, 9)), int(rng.integers(2, 17))
        shift = max(bits - 10, 0)
        spread = 1 << int(rng.integers(1, bits + 2))
        d = Descriptor(
            timed=1,
            n_steps=n_steps,
            soft=soft,
            groups_log2=groups_log2,
            leak=int(rng.integers(0, 4)),
            limit=(1 << (bits - 1)) - 1,
            initial_shift=shift,
        )
        threshold = rng.integers(-spread // 4, spread, 16)
        limit = min(d.limit >> shift, 511)
        initial = rng.integers(-limit, limit + 1, 16)
        zeros = np.zeros(16, np.int64)
        header = Header(zeros, zeros, zeros, zeros, threshold, initial)
        charge = rng.integers(-spread, spread, (7, 16, n_steps))
        fired = chain(d, header, charge)
        # Channel c of the reference stands at lane c % n * groups + c // n.
        lane = np.arange(16).reshape(-1, n_groups).T.reshape(-1)
        one = Neuron(
            bits=bits,
            threshold=threshold[lane],
            reset="soft" if soft else "hard",
            leak=d.leak,
            initial=initial[::n_groups] << shift,
            groups=n_groups,
        )
        membranes = spiking.initial_membranes(one, 7, (16, 1, 1))
        for step in range(n_steps):
            now = charge[:, lane, step, np.newaxis, np.newaxis]
            spikes, membranes = spiking.step(one, membranes, now)
            np.testing.assert_array_equal(fired.spikes[:, lane, step], spikes[..., 0, 0])
            left = fired.membranes[:, ::n_groups, step]
            np.testing.assert_array_equal(left, membranes[..., 0, 0])


@pytest.mark.parametrize(
    ("changes", "charge", "spikes", "left"),
    [
        ({"leak": 1}, [-1, -1, -4, -9], [0, 0, 0, 0], [0, 0, -2, -5]),
        ({"leak": 1, "soft": 1}, [9, 0, 9, 9], [1, 0, 1, 1], [2, 1, 2, 3]),
        ({"limit": 3}, [4, 4, -9, 1], [0, 1, 0, 0], [3, 0, -3, -2]),
    ],
)
def test_chain_by_hand(
    changes: dict[str, Any], charge: list[int], spikes: list[int], left: list[int]
) -> None:
    """Threshold 5, no groups."""
    d = Descriptor(**{"timed": 1, "n_steps": 4, "limit": 127, **changes})
    zeros = np.zeros(16, np.int64)
    header = Header(zeros, zeros, zeros, zeros, zeros + 5, zeros)
    fired = chain(d, header, np.broadcast_to(np.array(charge), (1, 16, 4)))
    for lane in (0, 15):
        assert fired.spikes[0, lane].tolist() == spikes
        assert fired.membranes[0, lane].tolist() == left
