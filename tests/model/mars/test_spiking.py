"""Neurons against the published forms in floating point, and whole networks by hand."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.mars import reference, spiking
from model.mars.network import Conv, Dense, FeatureType, MaxPool, QuantizedNetwork, SumPool
from model.mars.neuron import Exit, Neuron

Floats = NDArray[np.float64]


def neuron(n: int = 1, **changes: Any) -> Neuron:
    fields: dict[str, Any] = {"bits": 4, "threshold": np.full(n, 2), "reset": "hard"}
    return Neuron(**fields | changes)


def trace(one: Neuron, charges: list[int]) -> tuple[list[int], list[int]]:
    """Spikes and membranes of one neuron."""
    membrane = spiking.initial_membranes(one, 1, (1, 1, 1))
    spikes, membranes = [], []
    for charge in charges:
        fired, membrane = spiking.step(one, membrane, np.full((1, 1, 1, 1), charge))
        spikes.append(int(fired.item()))
        membranes.append(int(membrane.item()))
    return spikes, membranes


@pytest.mark.parametrize(
    ("changes", "charges", "spikes", "membranes"),
    [
        ({}, [1, 1, 1, 2], [0, 1, 0, 1], [1, 0, 1, 0]),  # at the threshold it fires
        ({}, [-3, -9, 100, 1], [0, 0, 1, 0], [-3, -7, 0, 1]),  # -2^(b-1) is never reached
        ({"reset": "soft"}, [5, 0, 0, 11], [1, 1, 0, 1], [3, 1, 1, 7]),
        ({"leak": 1}, [1, -1, -3, 1], [0, 0, 0, 0], [0, 0, -1, 0]),  # towards 0 from both sides
        ({"leak": 1, "reset": "soft"}, [7, 0, 3, 4], [1, 1, 1, 1], [2, 0, 0, 1]),
        ({"initial": np.array([2])}, [0, 0], [1, 0], [0, 0]),
        ({"threshold": np.array([0])}, [0, 0, -1, 1], [1, 1, 0, 1], [0, 0, -1, 0]),
        ({"threshold": np.array([-2])}, [-2, -3, 1], [1, 0, 1], [0, -3, 0]),
        ({"threshold": np.array([-2]), "reset": "soft"}, [-2, -3, 9], [1, 0, 1], [0, -3, 7]),
        ({"bits": 2, "threshold": np.array([50])}, [49, 49, 49], [0, 1, 0], [1, 0, 1]),
    ],
)
def test_one_neuron(
    changes: dict[str, Any], charges: list[int], spikes: list[int], membranes: list[int]
) -> None:
    assert trace(neuron(**changes), charges) == (spikes, membranes)


RANGES = {2: 1.915, 3: 0.791, 4: 0.485, 8: 0.109}
"""Scales up to which halving is the published quantiser of membranes, by bits."""


def quantised(values: Floats, scale: float, bits: int) -> Floats:
    """Symmetric quantisation behind tanh, ties to even: integers."""
    q = 2 ** (bits - 1) - 1
    return np.asarray(np.rint(np.clip(np.tanh(values) / scale, -1, 1) * q))


@pytest.mark.parametrize("bits", RANGES)
def test_mint_in_its_published_form(bits: int) -> None:
    """Weights and membranes of one scale, threshold 0.5, hard reset, half of it left; float64."""
    rng = np.random.default_rng(bits)
    q = 2 ** (bits - 1) - 1
    n_compared = 0
    for _ in range(300):
        scale = float(rng.uniform(0.02 if bits < 8 else 0.01, RANGES[bits]))
        unit = scale / q
        if abs(0.5 / unit - round(0.5 / unit)) < 1e-6:
            continue  # a tie: whether it fires is a question of rounding
        weights = quantised(rng.normal(0, 1, 200), scale, bits)
        spikes_in = rng.random((40, 200)) < rng.uniform(0.02, 0.3)
        one = neuron(bits=bits, threshold=np.array([int(0.5 // unit) + 1]), leak=1)
        membrane, ours = 0.0, np.zeros((1, 1, 1, 1), np.int64)
        for inputs in spikes_in:
            charged = membrane + float(inputs @ (weights * unit))
            fires = charged > 0.5
            membrane = float(quantised(np.array((1 - fires) * charged * 0.5), scale, bits)) * unit
            charge = np.full((1, 1, 1, 1), int(inputs @ weights))
            fired, ours = spiking.step(one, ours, charge)
            assert fired.item() == fires
            assert ours.item() == round(membrane / unit)
            n_compared += 1
    assert n_compared > 10_000


def test_efficient_lif_where_nothing_is_rounded() -> None:
    """v = v/4 + 3x/4, fire at 1, soft reset; of channels in groups each starts where one left."""
    rng = np.random.default_rng(5)
    n_groups, n_own, n_steps = 2, 3, 2
    unit = 16 * 4 ** (n_groups * n_steps)
    one = neuron(6, bits=16, threshold=np.full(6, unit), reset="soft", leak=2, groups=n_groups)
    for _ in range(50):
        # In sixteenths: a quarter is exact as often as it is taken.
        steps = rng.integers(-2, 9, (n_steps, n_groups, n_own)) / 4 * 0.75
        own, memory = np.zeros(n_own), np.zeros((1, n_own, 1, 1), np.int64)
        for x in steps:
            spikes = []
            for group in x:
                v = own + group
                fires = v >= 1
                own = (v - fires) / 4
                spikes.append(fires)
            charge = np.rint(x.reshape(1, 6, 1, 1) * unit).astype(np.int64)
            fired, memory = spiking.step(one, memory, charge)
            np.testing.assert_array_equal(fired.reshape(-1), np.concatenate(spikes))
            np.testing.assert_array_equal(memory.reshape(-1), own * unit)


def conv(name: str, source: str, weight: Any, one: Neuron, **changes: Any) -> Conv:
    array = np.array(weight).reshape(len(weight), -1, 1, 1)
    fields: dict[str, Any] = {"bias": np.zeros(len(array), int), "weight_bits": 8}
    return Conv(
        name=name,
        input=source,
        weight=array,
        out_bits=1,
        out_signed=False,
        neuron=one,
        **fields | changes,
    )


def dense(source: str, weight: Any, bias: Any) -> Dense:
    return Dense(
        name="fc",
        input=source,
        weight=np.array(weight),
        bias=np.array(bias),
        weight_bits=8,
        out_bits=32,
        out_signed=True,
    )


def test_network_by_hand() -> None:
    """An image of one value in three steps, a residual, logits that are summed."""
    net = QuantizedNetwork(
        FeatureType((1, 1, 1), 4, signed=False),
        (
            conv("a", "input", [[1]], neuron(threshold=np.array([5]))),
            conv("b", "a", [[-1]], neuron(threshold=np.array([4])), skip="a", skip_mult=5),
            dense("b", [[3], [-2]], [1, 10]),
        ),
        time_steps=3,
    )
    run = reference.run_steps(net, np.full((1, 1, 1), 3))
    # 3, 6: fires, 3; then 4 of b's threshold: 5 - 1 fires.
    assert run.values["a"].reshape(-1).tolist() == [0, 1, 0]
    assert run.membranes["a"].reshape(-1).tolist() == [3, 0, 3]
    assert run.values["b"].reshape(-1).tolist() == [0, 1, 0]
    assert run.values["fc"].reshape(3, 2).tolist() == [[1, 10], [5, 18], [6, 28]]
    assert run.steps.tolist() == [3]
    assert reference.run(net, np.full((1, 1, 1), 3))["fc"].shape == (1, 3, 2, 1, 1)


def test_layers_that_share_a_membrane() -> None:
    """What a leaves in a step is where b begins in it; then a begins where b left."""
    one = neuron(threshold=np.array([5]), membrane="u")
    net = QuantizedNetwork(
        FeatureType((1, 1, 1), 1, signed=False),
        (
            conv("a", "input", [[3]], one),
            conv("b", "input", [[1]], one),
            conv("c", "a", [[1]], neuron(), skip="b", skip_mult=1),
        ),
        time_steps=3,
        coding="spikes",
    )
    run = reference.run_steps(net, np.ones((3, 1, 1, 1), int))
    assert run.membranes["a"].reshape(-1).tolist() == [3, 0, 4]
    assert run.membranes["b"].reshape(-1).tolist() == [4, 1, 0]
    assert run.values["a"].reshape(-1).tolist() == [0, 1, 0]
    assert run.values["b"].reshape(-1).tolist() == [0, 0, 1]


def test_pools_of_spikes() -> None:
    """The largest of spikes is their OR, the sum counts them, in every step."""
    spikes = np.array([[[[1, 0], [0, 0]]], [[[0, 0], [0, 0]]], [[[1, 1], [0, 1]]]])
    net = QuantizedNetwork(
        FeatureType((1, 2, 2), 1, signed=False),
        (
            conv("a", "input", [[2]], neuron()),
            MaxPool(name="or", input="a"),
            SumPool(name="sum", input="a"),
            conv("b", "sum", [[1]], neuron(threshold=np.array([9])), skip="or", skip_mult=1),
            dense("b", [[1]], [0]),
        ),
        time_steps=3,
        coding="spikes",
    )
    values = reference.run(net, spikes)
    assert values["or"].reshape(-1).tolist() == [1, 0, 1]
    assert values["sum"].reshape(-1).tolist() == [1, 0, 3]
    assert reference.run_steps(net, spikes).membranes["b"].reshape(-1).tolist() == [2, 2, 6]


def test_images_do_not_meet() -> None:
    """Each image has membranes of its own and takes its own number of steps."""
    rng = np.random.default_rng(2)
    net = QuantizedNetwork(
        FeatureType((3, 4, 4), 1, signed=False),
        (
            conv("a", "input", rng.integers(-5, 9, (6, 3)), neuron(6, threshold=np.full(6, 4))),
            dense("a", rng.integers(-9, 10, (4, 96)), rng.integers(-9, 10, 4)),
        ),
        time_steps=5,
        coding="spikes",
        exit=Exit(metric="confidence", mode="mean", threshold=0.9, scale=0.05),
    )
    images = rng.integers(0, 2, (20, 5, 3, 4, 4))
    together = reference.run_steps(net, images)
    for k, image in enumerate(images):
        alone = reference.run_steps(net, image)
        assert alone.steps[0] == together.steps[k]
        np.testing.assert_array_equal(alone.membranes["a"][0], together.membranes["a"][k])
        np.testing.assert_array_equal(alone.values["fc"][0], together.values["fc"][k])
    assert len(set(together.steps.tolist())) > 1
