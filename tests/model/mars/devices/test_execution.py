"""Networks on arrays: exact without faults, converters by hand, draws that do not depend on order.

100 networks for each device are `full`; fewer run always.
"""

from dataclasses import replace

import numpy as np
import pytest

from firmware_tools.mars import regression
from model.mars import frame, reference
from model.mars.config import CONFIGS
from model.mars.devices.crossbar import Crossbar, converter
from model.mars.devices.device import Device, DeviceError, presets
from model.mars.devices.execution import NetworkArrays
from model.mars.devices.macros import DeviceMacros
from model.mars.network import Conv, Dense, FeatureType, QuantizedNetwork
from model.mars.random_network import random_input

TINY = CONFIGS["mars-tiny"]
NOISY = Device(name="noisy", program_noise=0.05, read_noise=0.05, rows=16, columns=64)


def assert_exact(name: str, seed: int) -> None:
    """Arrays and golden machine on a device that is ideal equal the golden machine.

    Network 41 has pairs of group-sets and maxima; 4 is a spiking one.
    """
    device = presets()[name].without_faults()
    make = regression.random_spiking_case if seed % 4 == 0 else regression.random_case
    case = make(TINY, seed)
    macros = DeviceMacros(replace(device, rows=16, columns=64), seed)
    golden = frame.run_frame(case.image, case.features)
    own = frame.run_frame(case.image, case.features, macros=macros)
    for one, other in zip(golden.passes, own.passes, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.writes.word, other.writes.word)
    expected = reference.run(case.network, case.features)
    found = NetworkArrays(case.network, device, seed=seed).run(case.features)
    for layer, values in expected.items():
        np.testing.assert_array_equal(values, found[layer])


@pytest.mark.parametrize("name", presets())
@pytest.mark.parametrize("seed", [4, 41])
def test_without_faults(name: str, seed: int) -> None:
    assert_exact(name, seed)


@pytest.mark.full
@pytest.mark.parametrize("name", presets())
def test_without_faults_100_networks(name: str) -> None:
    for seed in range(1, 101):
        assert_exact(name, seed)


@pytest.mark.parametrize("dac_bits", [1, 3, 8])
@pytest.mark.parametrize("cell_bits", [1, 3, 8])
def test_slices_and_parts(cell_bits: int, dac_bits: int) -> None:
    """All ways to cut 8-bit weights and signed activations add up to the product."""
    rng = np.random.default_rng(1)
    weights = rng.integers(-128, 128, (1, 5, 3))
    weights[0, 0, 0], weights[0, 1, 1] = -128, 127
    device = Device(cell_bits=cell_bits, dac_bits=dac_bits, on_off=50.0)
    there = np.ones((1, 5), np.bool_)
    crossbar = Crossbar(device, weights, there, 128, seed=0, trial=0, place=0)
    a = rng.integers(-128, 128, (4, 5))
    a[0] = -128
    np.testing.assert_array_equal(crossbar.read(0, a, 8, signed=True), a @ weights[0])
    assert crossbar.parts(8) == -(-8 // dac_bits)


def test_converter_by_hand() -> None:
    """4 bits for sums to 28: a step of 4, codes -8..7; ties to even, clipped at both ends."""
    four = converter(Device(adc_bits=4), 28)
    assert (four.step, four.limit) == (4.0, 8)
    sums = np.array([-40.0, -32, -2, 2, 5.9, 6.1, 28, 100])
    expected = [-32, -32, 0, 0, 4, 8, 28, 28]
    np.testing.assert_array_equal(four.convert(sums, 0.0), expected)
    np.testing.assert_array_equal(four.convert(np.zeros(1), 0.6), [4])
    assert converter(Device(adc_bits=4, adc_range=0.25), 28).step == 1.0
    assert converter(Device(adc_bits=8), 28).step == 1.0


def test_images_are_independent() -> None:
    """An image has the same results in every batch; another seed, trial or image others."""
    net = dense(40)
    inputs = np.repeat(random_input(net, 3, 1), 4, axis=0)
    arrays = NetworkArrays(net, NOISY, seed=1)
    whole = arrays.run(inputs)
    name = next(iter(arrays.layers))
    for k in (3, 0, 2):
        alone = arrays.run(inputs[k : k + 1], image=k)
        for layer, values in alone.items():
            np.testing.assert_array_equal(values[0], whole[layer][k])
    sums = {
        tuple(arrays.layers[name].products(inputs[:1], k, step).ravel())
        for k, step in ((0, 0), (1, 0), (0, 1))
    }
    other = NetworkArrays(net, NOISY, seed=1, trial=1).layers[name]
    assert len(sums | {tuple(other.products(inputs[:1], 0, 0).ravel())}) == 4


def test_read_noise() -> None:
    """Of a column of n pairs driven alike: sigma * sqrt(2n) of the range of a digit."""
    device = Device(name="read", read_noise=0.1, g_max=10.0)
    weights = np.full((1, 8, 1), 7)
    crossbar = Crossbar(device, weights, np.ones((1, 8), np.bool_), 8, seed=0, trial=0, place=0)
    n = 20_000
    a = np.full((n, 8), 15)
    draws = crossbar.draws(4, n, 0, 0)[0]
    sums = crossbar.read(0, a, 4, signed=False, draws=draws)
    # 8 levels of conductance are the digits 0..8: a digit is g_max / 8.
    assert sums.std() == pytest.approx(0.1 * 8 * 15 * np.sqrt(2 * 8), rel=0.02)
    assert sums.mean() == pytest.approx(7 * 15 * 8, abs=4 * sums.std() / np.sqrt(n))


def test_wires_lose_current() -> None:
    """Weak arrays lose less than the reference column, full ones more."""
    rram = replace(presets()["rram"], program_noise=0.0, read_noise=0.0, adc_bits=16, adc_range=1.0)
    there = np.ones((1, 64), np.bool_)
    ratios = []
    for digit in (1, 8):
        weights = np.full((1, 64, 32), -digit)
        crossbar = Crossbar(rram, weights, there, 8, seed=0, trial=0, place=0)
        ratios.append(float(crossbar.weights.mean()) / -digit)
    assert ratios[0] > 1 > ratios[1] > 0


def dense(n: int) -> QuantizedNetwork:
    """One layer of n inputs and 2 results."""
    weight = np.arange(2 * n).reshape(2, n) % 15 - 7
    layer = Dense(
        name="fc",
        input="input",
        weight=weight,
        bias=np.zeros(2, np.int64),
        weight_bits=4,
        out_bits=32,
        out_signed=True,
    )
    return QuantizedNetwork(FeatureType((n, 1, 1), 4, signed=False), (layer,))


def test_held_weights() -> None:
    """Without faults those of the layer, in its shape, also of grouped convolutions."""
    net = dense(37)
    arrays = NetworkArrays(net, presets()["rram"].without_faults())
    np.testing.assert_allclose(arrays.layers["fc"].held_weights(), net.layer("fc").weight)
    rng = np.random.default_rng(1)
    conv = Conv(
        name="conv",
        input="input",
        weight=rng.integers(-8, 8, (6, 2, 3, 2)),
        bias=np.zeros(6, np.int64),
        groups=3,
        weight_bits=4,
        out_bits=32,
        out_signed=True,
    )
    net = QuantizedNetwork(FeatureType((6, 5, 5), 4, signed=False), (conv,))
    arrays = NetworkArrays(net, presets()["pcm"].without_faults())
    np.testing.assert_allclose(arrays.layers["conv"].held_weights(), conv.weight, atol=1e-12)


def test_too_few_columns() -> None:
    with pytest.raises(DeviceError, match="columns must be at least 8, a pair for each of 4"):
        NetworkArrays(dense(3), Device(name="narrow", cell_bits=1, columns=4))


def test_array_larger_than_the_macro() -> None:
    with pytest.raises(DeviceError, match="rows must be at most 16, those of a macro, on the gold"):
        DeviceMacros(presets()["rram"])


def test_macros_are_noisy() -> None:
    """The golden machine on a noisy device: other values, the same ones for the same key."""
    case = regression.random_case(TINY, 3)
    golden, one, again, other = (
        [r.values.tolist() for r in frame.run_frame(case.image, case.features, macros=m).passes]
        for m in (
            None,
            DeviceMacros(NOISY, 1),
            DeviceMacros(NOISY, 1),
            DeviceMacros(NOISY, 1).at(1),
        )
    )
    assert one == again
    assert golden != one != other
