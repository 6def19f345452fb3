import math
from dataclasses import replace

import numpy as np
import pytest

from firmware_tools.costs.bench import POINTS, points
from firmware_tools.costs.constants import FILE, constants
from firmware_tools.costs.errors import CostError
from firmware_tools.costs.layers import Layers, layers_of
from firmware_tools.costs.options import options_of
from firmware_tools.costs.pricing import MACRO, price
from firmware_tools.costs.system import System
from model.mars.devices.device import Device, parse
from model.mars.network import Conv, Dense, FeatureType, MaxPool, QuantizedNetwork


def one(**values: float) -> Layers:
    """A convolution of 3 x 3 over 128 channels, 128 kernels, 16 pixels, 4 bit."""
    figures = {
        "groups": 1,
        "rows": 1152,
        "kernels": 128,
        "pixels": 16,
        "in_bits": 4,
        "weight_bits": 4,
        "sets": 576,
        "planes": 1,
        "mean_weight": 0.25,
        "macs": 16 * 128 * 1152,
    } | values
    return Layers(("conv",), *(np.array([v], float) for v in figures.values()), links=())


def priced(text: str, **values: float):
    known = constants()
    return price(one(**values), options_of([parse(text)], known), known)


def test_arrays_of_hand_counted_layers():
    # 1152 rows are 18 arrays of 64; 128 kernels of one pair are 4 of 32.
    costs = priced("pcm:rows=64,columns=64")
    assert costs.arrays == 72
    assert costs.converters == 72 * 4
    assert costs.conversions == 16 * 18 * 128
    # Two slices of 2 bit: 16 kernels an array; activations a bit at a time: four accesses.
    costs = priced("pcm:rows=64,columns=64,cell_bits=2,dac_bits=1")
    assert costs.arrays == 18 * 8
    assert costs.conversions == 16 * 4 * 18 * 128 * 2


def test_group_of_channels_has_arrays_of_its_own():
    assert priced("pcm:rows=64,columns=64", groups=128, rows=9, kernels=1).arrays == 128


def test_formula_by_hand():
    known, device = constants(), parse("pcm:rows=64,columns=64,adc_bits=8")
    costs = priced("pcm:rows=64,columns=64,adc_bits=8")
    cells = 1152 * 128 * 2
    siemens = 0.25 + 24.75 * 0.25 / 2
    array = 16 * cells * 0.2**2 * siemens * 250 * 0.333 * 1e-3
    assert math.isclose(costs.array_energy[0], array)
    adc = 1.67 * (180 / 32) * 1.8**2
    drive = 16 * 1152 * 4 * 0.41667 * (180 / 32) * 1.8**2 * 8
    conversions = 16 * 18 * 128
    rest = conversions * (adc + 32) + 16 * 128 * 374
    assert math.isclose(costs.energy[0], array + drive + rest)
    assert math.isclose(costs.array_area[0], 72 * 64 * 64 * 48 * 0.18**2 * 1e-6)
    more = 72 * 64 * 0.166 * (180 / 32) ** 2 * 8 + 288 * 1200 * (180 / 32) ** 2
    assert math.isclose(costs.area[0] - costs.array_area[0], more * 1e-6)
    assert math.isclose(costs.time[0], 16 * (250 + 8 * (180 / 32) / 1.2))
    assert costs.program_energy == cells * known["cells.pcm.write_energy"] * 8
    assert device.g_min == 0.25


def test_digital_macro_is_what_silicon_says():
    # docs/silicon.md: 1,152 accesses, 9.0 pJ a product; 2.14 mm2; skipped group-sets cost nothing.
    costs = priced("sram", sets=9, pixels=64)
    assert costs.arrays == 1
    assert math.isclose(costs.area[0], 2.14)
    assert math.isclose(costs.time[0], 9 * 64 * 1000 / 109)
    assert math.isclose(costs.array_energy[0], 9 * 64 * MACRO.read_energy)
    assert math.isclose(MACRO.area / 1e6, constants()["digital.memory"], rel_tol=0.01)
    assert priced("sram", sets=0).time == 0
    assert priced("sram", sets=65).arrays == 2


def test_layers_and_links_of_a_network():
    def conv(name: str, source: str, n: int) -> Conv:
        weight = np.zeros((16, n, 3, 3), int)
        weight[0] = 1
        scale = np.ones(16, int)
        return Conv(
            name=name,
            input=source,
            weight=weight,
            bias=np.zeros(16, int),
            mult=scale,
            shift=scale,
            padding=(1, 1, 1, 1),
            weight_bits=4,
            out_bits=4,
            out_signed=False,
        )

    dense = Dense(
        name="d",
        input="p",
        weight=np.ones((10, 256), int),
        bias=np.zeros(10, int),
        weight_bits=4,
        out_bits=32,
        out_signed=True,
    )
    pool = MaxPool(name="p", input="b", kernel=(2, 2), stride=(2, 2))
    network = QuantizedNetwork(
        name="n",
        input_type=FeatureType((16, 8, 8), 4, signed=False),
        layers=(conv("a", "input", 16), conv("b", "a", 16), pool, dense),
    )
    layers = layers_of(network)
    assert layers.names == ("a", "b", "d")
    assert layers.rows.tolist() == [144, 144, 256]
    assert layers.pixels.tolist() == [64, 64, 1]
    assert layers.sets.tolist() == [9, 9, 16]
    # The pool stands where its input is made, so what it leaves of the map crosses.
    assert layers.links == ((0, 1, 16 * 64, 0), (1, 2, 16 * 16, 0))
    system = System(layers, [parse("sram"), parse("pcm:rows=64")], constants())
    alike = system.totals(np.array([[0, 0, 0], [0, 1, 1]]))
    mixed = system.totals(np.array([[0, 1, 0]]))
    own = system.table.energy[[0, 1, 2], [0, 1, 0]].sum()
    bit = 0.54 * (180 / 28) * (1.8 / 0.9) ** 2
    assert math.isclose(mixed.energy[0] - own, (16 * 64 * 4 + 16 * 16 * 4) * bit)
    cores = alike.area - system.table.area[[0, 1, 2], [[0, 0, 0], [0, 1, 1]]].sum(1)
    end = 0.1 * (180 / 28) ** 2
    assert np.allclose(cores, [14.32, 2 * (14.32 + end)])


def test_device_of_a_file_has_its_own_price(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        "rows = 64\ncolumns = 64\nadc_bits = 8\n[costs]\narea = 24\nread_volts = 0.2\n"
        "read_time = 250\nwrite_energy = 10\nwrite_time = 100\n"
    )
    mine, pcm = priced(str(path)), priced("pcm:rows=64,columns=64,adc_bits=8,cell_bits=8")
    assert mine.array_area * 2 == pcm.array_area
    assert mine.program_time == pcm.program_time  # as many pulses
    assert mine.array_time * 2 == priced(f"{path}:dac_bits=2").array_time


def test_what_has_no_price_is_refused():
    known = constants()
    with pytest.raises(CostError, match=r"device mine: device must be one of sram, sram-analog"):
        options_of([Device(name="mine")], known)
    with pytest.raises(
        CostError, match=r"device pcm: adc_bits must be 4..10 to have a price, not 3"
    ):
        options_of([parse("pcm:adc_bits=3")], known)


def test_every_constant_has_a_source_and_ours_are_marked():
    for name, one in constants().by_name.items():
        assert one.source, name
        assert one.valid is not None or len(one.values) > 1 or name.endswith(".node"), name
    assert constants().by_name["adc.shared"].is_ours
    assert not constants().by_name["adc.rate"].is_ours
    assert FILE.suffix == ".toml"


def test_points_are_priced_as_one_by_one():
    known = constants()
    layers = replace(one(), names=("conv",))
    found = points(layers, known)
    assert sum(len(each.area) for each in found) == POINTS
    assert all(np.isfinite(each.energy).all() and (each.energy > 0).all() for each in found)
