"""Biases, multipliers and shifts that undo what a device does to each channel."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from firmware_tools.adaptation import moments
from firmware_tools.adaptation.errors import AdaptationError
from firmware_tools.adaptation.moments import Affine, Moments
from firmware_tools.mars.regression import random_case, random_spiking_case
from model.mars import reference
from model.mars.config import CONFIGS
from model.mars.devices.device import Device, parse
from model.mars.devices.execution import NetworkArrays
from model.mars.image import ImageError
from model.mars.mapper import compile_network
from model.mars.network import INPUT, AvgPool, Conv, Dense, FeatureType, QuantizedNetwork
from model.mars.patch import patch, tables

TINY = CONFIGS["mars-tiny"]
KIND = FeatureType((4, 6, 6), 4, signed=False)


def network(**fields: int | None) -> QuantizedNetwork:
    """Two convolutions, the second with a residual, an average and logits."""
    rng = np.random.default_rng(1)

    def conv(name: str, source: str, **more: object) -> Conv:
        return Conv(
            name=name,
            input=source,
            weight=rng.integers(-8, 8, (4, 4, 3, 3)),
            bias=rng.integers(-200, 200, 4),
            mult=rng.integers(20_000, 60_000, 4),
            shift=np.full(4, 20),
            padding=(1, 1, 1, 1),
            weight_bits=4,
            out_bits=8,
            out_signed=True,
            **more,
        )

    average = AvgPool(name="mean", input="b", mult=3000, shift=14, out_bits=8, out_signed=True)
    last = Dense(
        name="fc",
        input="mean",
        weight=rng.integers(-8, 8, (3, 4)),
        bias=rng.integers(-50, 50, 3),
        weight_bits=4,
        out_bits=32,
        out_signed=True,
    )
    second = conv("b", "a", skip="a", skip_mult=700_000 if fields else 60_000)
    return QuantizedNetwork(KIND, (conv("a", INPUT), second, average, last), "small")


def images(n: int = 16) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 16, (n, *KIND.shape))


class Affected:
    """Arrays that spoil each channel by an affine map, and nothing else."""

    def __init__(self, net: QuantizedNetwork, *, offset: int) -> None:
        self.network, self.layers = net, {}
        rng = np.random.default_rng(3)
        for layer in net.layers:
            if isinstance(layer, Conv | Dense):
                n = len(layer.weight)
                gains = rng.integers(1, 5, (n, 1, 1)) if offset else np.full((n, 1, 1), 3)
                shifts = rng.integers(-offset, offset + 1, (n, 1, 1))
                self.layers[layer.name] = _Spoiled(layer, gains, shifts)

    def products(self):
        return lambda layer, source: self.layers[layer.name].products(source, 0, 0)


class _Spoiled:
    def __init__(self, layer: Conv | Dense, gains: np.ndarray, shifts: np.ndarray) -> None:
        self._layer = replace(layer, bias=np.zeros(len(layer.weight), np.int64))
        self._gains, self._shifts = gains, shifts

    def products(self, source, _image: int, _step: int):
        return reference.accumulate(self._layer, source) * self._gains + self._shifts


def test_affine_is_undone() -> None:
    """Each channel times 1..4 and up to 500 more: results as before, but for rounding."""
    net = network()
    arrays = Affected(net, offset=500)
    adapted = moments.statistics(net, arrays, images())
    exact = reference.run(net, images())
    before, after = (reference.run(one, images(), arrays.products()) for one in (net, adapted))
    for name in ("a", "b", "mean"):
        assert np.abs(before[name] - exact[name]).max() > 3
        assert np.abs(after[name] - exact[name]).max() <= 1
    logits = [one["fc"].reshape(len(images()), -1).argmax(axis=1) for one in (exact, after)]
    assert (logits[0] == logits[1]).mean() > 0.9
    for layer, its in zip(net.layers, adapted.layers, strict=True):
        if isinstance(layer, Conv | Dense):
            np.testing.assert_array_equal(layer.weight, its.weight)


def test_gain_undoes_one_factor_only() -> None:
    """Three times all channels is undone; different channels are not."""
    net = network()
    exact = reference.run(net, images())["b"]
    for offset, undone in ((0, True), (500, False)):
        arrays = Affected(net, offset=offset)
        adapted = moments.gain(net, arrays, images())
        found = reference.run(adapted, images(), arrays.products())["b"]
        assert (np.abs(found - exact).max() <= 1) == undone


def test_batch_normalisation_of_torch() -> None:
    """The rule is that of BatchNorm2d with new running statistics (momentum=None)."""
    rng = np.random.default_rng(4)
    first, second = (
        torch.from_numpy(rng.normal(m, s, (64, 3, 5, 5))) for m, s in ((2, 3), (-4, 7))
    )
    norm = torch.nn.BatchNorm2d(3, momentum=None, eps=1e-30).double()
    with torch.no_grad():
        norm.weight[:] = torch.tensor([0.5, 1.5, 2.0])
        norm.bias[:] = torch.tensor([0.1, -0.2, 0.3])

    def folded(x: torch.Tensor) -> Affine:
        norm.reset_running_stats()
        norm.train()
        norm(x)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        factor = (norm.weight / norm.running_var.sqrt()).detach().numpy()
        return Affine(factor, norm.bias.detach().numpy() / factor - norm.running_mean.numpy())

    def of(x: torch.Tensor) -> Moments:
        values = x.numpy().swapaxes(0, 1).reshape(3, -1)
        return Moments(values.mean(axis=1), values.std(axis=1), float(np.abs(values).mean()))

    found = moments.by_channel(folded(first), of(first), of(second))
    expected = folded(second)
    np.testing.assert_allclose(found.factor, expected.factor, rtol=1e-12)
    np.testing.assert_allclose(found.bias, expected.bias, rtol=1e-12)


def test_channel_that_does_not_vary() -> None:
    """It keeps its factor and gets its mean back."""
    own = Affine(np.array([2.0, 2.0]), np.array([1.0, 1.0]))
    exact = Moments(np.array([5.0, 5.0]), np.array([0.0, 3.0]), 5.0)
    device = Moments(np.array([7.0, 9.0]), np.array([4.0, 0.0]), 8.0)
    found = moments.by_channel(own, exact, device)
    np.testing.assert_allclose(found.factor, [2, 2])
    np.testing.assert_allclose(found.bias, [5 + 1 - 7, 5 + 1 - 9])


def test_second_component() -> None:
    """0 of a multiple, a half of unrelated weights, by hand for two points off a line."""
    w = np.random.default_rng(5).normal(size=10_000)
    other = np.random.default_rng(6).normal(size=10_000)
    assert moments.second_component(w, 0.3 * w) == pytest.approx(0, abs=1e-12)
    assert moments.second_component(w, other) == pytest.approx(0.5, abs=0.02)
    # cov = [[1, 0], [0, 1/4]] times a constant
    square = np.array([1.0, 1, -1, -1]), np.array([0.5, -0.5, 0.5, -0.5])
    assert moments.second_component(*square) == pytest.approx(0.2)


def test_second_components_grow_with_noise() -> None:
    net = network()
    found = [
        max(moments.second_components(net, NetworkArrays(net, parse(text))).values())
        for text in ("sram", "fefet:program_noise=0.05", "fefet:program_noise=0.3")
    ]
    assert found[0] < 1e-12 < found[1] < found[2]


def test_exact_device_changes_nothing_but_rounding() -> None:
    net = network()
    adapted = moments.statistics(net, NetworkArrays(net, Device()), images())
    exact, after = (reference.run(one, images()) for one in (net, adapted))
    for name, values in exact.items():
        assert np.abs(after[name] - values).max() <= 1


def test_patch() -> None:
    """Only lines of headers and descriptors, few of them; anything else is refused."""
    case = random_case(TINY, 4)
    net = case.network
    arrays = NetworkArrays(net, parse("fefet"))
    rng = np.random.default_rng(1)
    kind = net.input_type
    some = rng.integers(kind.low, kind.high + 1, (8, *kind.shape))
    after = compile_network(moments.statistics(net, arrays, some), TINY)
    found = patch(case.image, after)
    assert 0 < len(found) <= tables(case.image).sum()
    np.testing.assert_array_equal(found.apply(case.image.lines), after.lines)
    assert len(patch(case.image, case.image)) == 0
    with pytest.raises(ImageError, match="images must be of the same network"):
        patch(case.image, random_case(TINY, 5).image)
    lines = case.image.lines.copy()
    lines[np.flatnonzero(~tables(case.image))[0], 0] ^= np.uint64(1)
    with pytest.raises(ImageError, match=r"line \d+ of the program must be as it is: it holds wei"):
        patch(case.image, replace(case.image, lines=lines))


def test_spiking_networks_are_refused() -> None:
    net = random_spiking_case(TINY, 1).network
    with pytest.raises(AdaptationError, match="must be a network without neurons"):
        moments.check(net)


def test_residual_with_several_shifts() -> None:
    net = network()
    second = replace(net.layer("b"), shift=np.array([20, 20, 20, 21]))
    spoiled = replace(net, layers=(net.layers[0], second, *net.layers[2:]))
    with pytest.raises(AdaptationError, match=r"layer 'b': shifts must be alike .* not 20..21"):
        moments.statistics(spoiled, NetworkArrays(spoiled, Device()), images())
