"""Each node means what NIR's formula says: numbers on a common grid give the same spikes."""

from typing import Any

import nir
import numpy as np
import pytest

from firmware_tools.nir_import import Choices, NirImport, load
from model.mars import reference
from model.mars.network import Conv

STEPS = 12


def grid(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-8, 9, shape) / 8


def conv(rng: np.random.Generator, n_out: int, n_in: int, size: int, **fields: Any) -> nir.Conv2d:
    values = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1, **fields}
    weight = grid(rng, n_out, n_in, 3, 3)
    return nir.Conv2d((size, size), weight, bias=grid(rng, n_out) / 4, **values)


def neurons(shape: Any, threshold: float = 1.0, r: float = 1.0, reset: float = 0.0) -> nir.IF:
    return nir.IF(*(np.full(shape, value) for value in (r, threshold, reset)))


def window(kernel: int, stride: int) -> list[np.ndarray]:
    return [np.array([size] * 2) for size in (kernel, stride, 0)]


def flatten(*shape: int) -> nir.Flatten:
    return nir.Flatten(np.array(shape), 0)


def affine(rng: np.random.Generator, n_out: int, n_in: int) -> nir.Affine:
    return nir.Affine(grid(rng, n_out, n_in), grid(rng, n_out))


def chains() -> dict[str, tuple[Any, ...]]:
    rng = np.random.default_rng(5)
    by_channel = np.broadcast_to((np.arange(4) + 1.0)[:, None, None] / 2, (4, 6, 6)).copy()
    return {
        "affine": ((9,), affine(rng, 5, 9), neurons(5)),
        "linear": ((9,), nir.Linear(grid(rng, 5, 9)), neurons(5, 0.5)),
        "r": ((9,), affine(rng, 5, 9), neurons(5, 1.5, 2.0)),
        "two affine": ((9,), affine(rng, 4, 9), nir.Affine(np.eye(4) * 2, np.ones(4)), neurons(4)),
        "conv": ((3, 6, 6), conv(rng, 4, 3, 6), neurons((4, 6, 6))),
        "dilation": ((3, 6, 6), conv(rng, 4, 3, 6, dilation=2, padding=2), neurons((4, 6, 6))),
        "groups": ((4, 6, 6), conv(rng, 4, 2, 6, groups=2), neurons((4, 6, 6))),
        "thresholds": ((3, 6, 6), conv(rng, 4, 3, 6), nir.IF(np.ones((4, 6, 6)), by_channel)),
        "stride": ((3, 7, 7), conv(rng, 4, 3, 7, stride=2), neurons((4, 4, 4))),
        "scale before": (
            (4, 6, 6), nir.Scale(by_channel), conv(rng, 2, 4, 6), neurons((2, 6, 6), 2),
        ),
        "scale behind": ((3, 6, 6), conv(rng, 4, 3, 6), nir.Scale(by_channel), neurons((4, 6, 6))),
        "sum pool": (
            (2, 6, 6), nir.SumPool2d(*window(2, 2)), conv(rng, 3, 2, 3), neurons((3, 3, 3), 3),
        ),
        "average": (
            (2, 6, 6), nir.AvgPool2d(*window(2, 2)), conv(rng, 3, 2, 3), neurons((3, 3, 3)),
        ),
        "average of a conv": (
            (2, 8, 8), conv(rng, 3, 2, 8), nir.AvgPool2d(*window(2, 2)), neurons((3, 4, 4)),
        ),
        "sum of a dilated conv": (
            (2, 9, 9), conv(rng, 3, 2, 9, stride=2, dilation=2, padding=2),
            nir.SumPool2d(*window(2, 1)), neurons((3, 4, 4), 6),
        ),
        "pool of one": ((2, 3, 3), nir.AvgPool2d(*window(1, 1)), flatten(2, 3, 3),
                        affine(rng, 3, 18), neurons(3)),
        "windows that overlap": (
            (2, 6, 6), nir.SumPool2d(*window(2, 1)), flatten(2, 5, 5), affine(rng, 3, 50),
            neurons(3, 8),
        ),
        "spikes alone": ((2, 4, 4), neurons((2, 4, 4), 1.5)),
        "two layers": (
            (3, 6, 6), conv(rng, 4, 3, 6), neurons((4, 6, 6)), flatten(4, 6, 6),
            affine(rng, 5, 144), neurons(5, 4),
        ),
        "threshold": ((9,), affine(rng, 5, 9), nir.Threshold(np.arange(5.0) / 2 - 1)),
        "threshold of a map": (
            (3, 6, 6), conv(rng, 4, 3, 6), nir.Threshold(by_channel), conv(rng, 2, 4, 6),
            neurons((2, 6, 6)),
        ),
        "reset": ((9,), affine(rng, 5, 9), neurons(5, 1.0, 1.0, 0.25)),
        "one threshold a channel": (
            (3, 6, 6), conv(rng, 4, 3, 6), nir.IF(np.ones((4, 1, 1)), by_channel[:, :1, :1]),
        ),
        "flatten that counts the batch": (
            (2, 3, 3), nir.Flatten(np.array([1, 2, 3, 3]), 1, -1), affine(rng, 3, 18), neurons(3),
        ),
    }  # fmt: skip


CHAINS = chains()


def spikes(write: Any, chain: tuple[Any, ...], **choices: Any) -> tuple[Any, Any, NirImport]:
    """A graph, inputs of it, and what was imported."""
    shape, *nodes = chain
    path = write(shape, *nodes)
    imported = load(path, Choices(time_steps=STEPS, **choices))
    x = (np.random.default_rng(3).random((6, STEPS, *shape)) < 0.4).astype(np.int64)
    return nir.read(path, type_check=False), x, imported


def found(imported: NirImport, x: Any) -> Any:
    values = reference.run(imported.network, imported.to_network(x))
    return imported.from_network(values[imported.network.output])


RESETS = [(name, reset) for name in CHAINS for reset in ("hard", "soft")]
RESETS.remove(("reset", "soft"))  # has no v_reset: refused


@pytest.mark.parametrize(("name", "reset"), RESETS)
def test_spikes(write, simulate, name, reset) -> None:
    graph, x, imported = spikes(write, CHAINS[name], reset=reset)
    wanted = simulate(graph, x, reset=reset)["output"]
    assert 0.02 < wanted.mean() < 0.98
    assert np.array_equal(found(imported, x), wanted)


def test_equality_does_not_fire(write, simulate) -> None:
    """0.5 + 0.5 is not above 1."""
    chain = ((1,), nir.Linear(np.full((1, 1), 0.5)), neurons(1))
    for reset, times in (("hard", [2, 5, 8, 11]), ("soft", [2, 4, 6, 8, 10])):
        graph, x, imported = spikes(write, chain, reset=reset)
        ones = np.ones_like(x[:1])
        assert np.flatnonzero(found(imported, ones)).tolist() == times
        assert np.flatnonzero(simulate(graph, ones, reset=reset)["output"]).tolist() == times


def test_logits(write, simulate) -> None:
    """A product at the end is summed over the steps."""
    shape, *nodes = CHAINS["two layers"][:-1]
    graph, x, imported = spikes(write, (shape, *nodes))
    node = graph.nodes["Affine_3"]
    before = simulate(graph, x)["Flatten_2"]
    wanted = np.cumsum(before @ node.weight.T + node.bias, axis=1)
    scale = imported.network.scales["Affine_3"]
    rounded = (np.cumsum(before.sum(axis=2), axis=1) + STEPS) * scale / 2
    assert (np.abs(found(imported, x) * scale - wanted) <= rounded[..., None]).all()
    assert imported.report == (
        "node 'Affine_3' (Affine): results are summed over the steps, as logits",
    )


def residual(write: Any) -> Any:
    rng = np.random.default_rng(8)
    nodes = {
        "a": conv(rng, 3, 2, 5),
        "n": neurons((3, 5, 5)),
        "b": conv(rng, 3, 3, 5),
        "s": nir.Scale(np.full((3, 5, 5), 0.75)),
        "m": neurons((3, 5, 5), 2),
    }
    edges = [("input", "a"), ("a", "n"), ("n", "b"), ("n", "s"), ("b", "m"), ("s", "m")]
    return write((2, 5, 5), edges=[*edges, ("m", "output")], **nodes)


def test_residual(write, simulate) -> None:
    path = residual(write)
    imported = load(path, Choices(time_steps=STEPS))
    layer = imported.network.layers[-1]
    assert isinstance(layer, Conv)
    assert layer.skip == "a"
    assert layer.skip_mult * imported.membrane_scales["b"][0] == pytest.approx(0.75)
    x = (np.random.default_rng(3).random((6, STEPS, 2, 5, 5)) < 0.4).astype(np.int64)
    wanted = simulate(nir.read(path, type_check=False), x)["output"]
    assert np.array_equal(found(imported, x), wanted)


def test_names_are_no_order(write, simulate) -> None:
    """Alphabetical names turned round."""
    rng = np.random.default_rng(5)
    nodes = {"z": affine(rng, 6, 9), "y": neurons(6), "x": affine(rng, 4, 6), "a": neurons(4)}
    edges = [("input", "z"), ("z", "y"), ("y", "x"), ("x", "a"), ("a", "output")]
    path = write((9,), edges=edges, **nodes)
    imported = load(path, Choices(time_steps=STEPS))
    assert [layer.name for layer in imported.network.layers] == ["z", "x"]
    x = (rng.random((6, STEPS, 9)) < 0.5).astype(np.int64)
    assert np.array_equal(
        found(imported, x), simulate(nir.read(path, type_check=False), x)["output"]
    )


def test_conv1d(write) -> None:
    """As a Conv2d of one row."""
    rng = np.random.default_rng(5)
    weight, bias = grid(rng, 4, 3, 3), grid(rng, 4)
    one = nir.Conv1d(8, weight, 2, 1, 1, 1, bias)
    two = nir.Conv2d((1, 8), weight[:, :, None], (1, 2), (0, 1), (1, 1), 1, bias)
    networks = [
        load(write((3, *size, 8), node, neurons((4, *size, 4))), Choices(time_steps=4)).network
        for node, size in ((one, ()), (two, (1,)))
    ]
    layers = [network.layers[0] for network in networks]
    assert networks[0].types["Conv1d_0"].shape == networks[1].types["Conv2d_0"].shape == (4, 1, 4)
    for field in ("weight", "bias"):
        assert np.array_equal(*(getattr(layer, field) for layer in layers))
    assert layers[0].padding == layers[1].padding == (0, 1, 0, 1)
    assert layers[0].stride == layers[1].stride == (1, 2)


@pytest.mark.parametrize(("padding", "sides"), [("same", (1, 1, 2, 2)), ("valid", (0, 0, 0, 0))])
def test_padding_in_words(write, padding, sides) -> None:
    node = nir.Conv2d((6, 6), np.ones((1, 1, 4, 4)), 1, padding, 1, 1, np.zeros(1))
    size = 6 if padding == "same" else 3
    network = load(write((1, 6, 6), node, neurons((1, size, size))), Choices(time_steps=4)).network
    assert network.layers[0].padding == sides


def leaky(rng: np.random.Generator, leak: int, threshold: float, **fields: float) -> nir.LIF:
    """Neurons whose step, at dt 0.001, leaves 2^-leak."""
    part = 1 - 2.0**-leak
    values = {"tau": 1e-3 / part, "r": 1 / part, "v_leak": 0.0, **fields}
    arrays = {name: np.full(6, value) for name, value in values.items()}
    return nir.LIF(**arrays, v_threshold=threshold * rng.uniform(0.6, 1.4, 6))


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("leak", [1, 2, 4])
def test_leak_in_steps(write, leak, reset) -> None:
    """The Euler form, what a step leaves being rounded towards 0 to steps of the membrane."""
    rng = np.random.default_rng(leak)
    chain = ((9,), affine(rng, 6, 9), leaky(rng, leak, 2.0, v_leak=0.25))
    graph, x, imported = spikes(write, chain, dt=1e-3, reset=reset)
    scale = imported.membrane_scales["Affine_0"]
    node, lif = graph.nodes["Affine_0"], graph.nodes["LIF_1"]
    layer = imported.network.layers[0]
    assert np.abs(layer.weight * scale[:, None] - node.weight).max() <= scale.max() * 1.01
    part = 1 - 2.0**-leak
    v = np.zeros((6, 6))
    wanted = []
    for now in range(STEPS):
        charge = x[:, now] @ (layer.weight * scale[:, None]).T + layer.bias * scale
        v = v + charge
        fires = v > lif.v_threshold
        subtracted = v - layer.neuron.threshold * scale
        v = np.where(fires, subtracted if reset == "soft" else 0, v)
        v = np.trunc(v / scale * 2.0**-leak + 1e-9 * np.sign(v)) * scale
        wanted.append(fires)
    assert np.array_equal(found(imported, x), np.stack(wanted, axis=1))
    assert np.abs(layer.bias * scale - (node.bias + part * 0.25)).max() <= scale.max() / 2


@pytest.mark.parametrize("leak", [1, 3])
def test_membranes_keep_near_the_euler_form(write, simulate, leak) -> None:
    """Rounding errors of a step fade away as membranes do: at most one step / (1 - 2^-leak)."""
    rng = np.random.default_rng(leak)
    weight = rng.integers(-127, 128, (6, 9)) / 64
    weight[:, 0] = 127 / 64
    chain = ((9,), nir.Linear(weight), leaky(rng, leak, 1000.0))
    _, x, imported = spikes(write, chain, dt=1e-3)
    membranes = reference.run_steps(imported.network, imported.to_network(x)).membranes
    v = np.zeros((6, 6))
    scale = imported.membrane_scales["Linear_0"]
    layer = imported.network.layers[0]
    real = layer.weight * scale[:, None]
    for now in range(STEPS):
        v = 2.0**-leak * (v + x[:, now] @ real.T)
        error = np.abs(membranes["Linear_0"][:, now, :, 0, 0] * scale - v)
        assert (error <= scale / (1 - 2.0**-leak)).all()
    assert np.abs(v).max() > 10 * scale.max()
    assert simulate


def test_one_step_forgets_all(write, simulate) -> None:
    """dt = tau leaves nothing: a threshold without memory."""
    rng = np.random.default_rng(2)
    lif = nir.LIF(*(np.full(6, value) for value in (1e-3, 1.0, 0.0, 0.5)))
    graph, x, imported = spikes(write, ((9,), affine(rng, 6, 9), lif), dt=1e-3)
    assert np.array_equal(found(imported, x), simulate(graph, x, dt=1e-3)["output"])


def test_bits(write) -> None:
    rng = np.random.default_rng(2)
    path = write((9,), nir.Linear(rng.normal(size=(6, 9))), neurons(6))
    for bits in (4, 8):
        layer = load(path, Choices(time_steps=4, bits=bits)).network.layers[0]
        assert layer.weight_bits == bits
        assert (1 << bits) // 4 < np.abs(layer.weight).max() <= 1 << (bits - 1)


def test_nearest_leak(write) -> None:
    """0.72 is nearer to a half than to 1."""
    lif = nir.LIF(*(np.full(6, value) for value in (1.0, 1.0, 0.0, 0.5)))
    path = write((9,), nir.Linear(np.eye(6, 9)), lif)
    imported = load(path, Choices(time_steps=4, dt=0.28, nearest_leak=True))
    assert imported.network.layers[0].neuron.leak == 1
    assert imported.report[0].startswith(
        "node 'LIF_1' (LIF): a step leaves 0.5 of a membrane instead of 0.72, -0.22"
    )


def test_calibration(write) -> None:
    """Membranes of as many bits as events need, and one more; counts are clipped."""
    rng = np.random.default_rng(2)
    path = write((9,), nir.Linear(rng.normal(size=(6, 9)) - 2), neurons(6))
    events = (rng.random((5, 8, 9)) < 0.1).astype(np.int64)
    events[0, 0, 0] = 3
    imported = load(path, Choices(events=events))
    network = imported.network
    assert network.time_steps == 8
    largest = np.abs(reference.run_steps(network, np.minimum(imported.to_network(events), 1))
                     .membranes["Linear_0"]).max()  # fmt: skip
    bits = int(largest).bit_length() + 2
    assert network.layers[0].neuron.bits == bits
    assert imported.report == (
        f"Linear_0: membranes of {bits} bits, of which the events need {bits - 1}",
        "events: 1 of 360 counts were clipped to 1",
    )


def test_calibration_makes_the_scale_coarser(write) -> None:
    """Membranes that sink beyond 16 bits."""
    path = write((9,), nir.Linear(np.full((2, 9), -2.0)), neurons(2))
    events = np.ones((1, 64, 9), np.int64)
    text = load(path, Choices(time_steps=64)).report[0]
    assert text.startswith("node 'IF_1' (IF): membranes of 16 bits hold +-32767 steps")
    imported = load(path, Choices(events=events))
    assert "Linear_0: scale 4 times as large, so that membranes fit in 16 bits" in imported.report
    membranes = reference.run_steps(imported.network, events[..., None, None]).membranes["Linear_0"]
    assert np.abs(membranes).max() < 32767
