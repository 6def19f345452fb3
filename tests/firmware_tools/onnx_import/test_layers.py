"""Layers that are made: which weights a factor and something added get."""

import numpy as np

from firmware_tools.onnx_import.layers import diagonal, products_layer
from firmware_tools.onnx_import.nodes import Node
from firmware_tools.onnx_import.values import Feature, Grid
from firmware_tools.onnx_import.views import View
from model.mars.network import Conv

SOURCE = Grid(0.02, 3, 8, signed=True)
RESULT = Grid(0.021, -4, 8, signed=True)


def _made(added: np.ndarray, factor: np.ndarray) -> tuple[Conv, float]:
    node = Node("Add", "add", ("x",), ("y",))
    shape = (len(added), 4, 1)
    products = diagonal(node, Feature("x", SOURCE, View(shape, shape)), factor, added)
    made = products_layer("add", products, RESULT, wide=True)
    assert isinstance(made.layer, Conv)
    return made.layer, made.error


def test_what_is_added_is_as_exact_as_a_weight_of_8_bits_allows() -> None:
    """With the largest weight for all channels it would be off by up to 1/254 of a step."""
    added = np.random.default_rng(1).normal(size=60)
    layer, error = _made(added, np.ones(60))
    weight = layer.weight[:, 0, 0, 0]
    steps = added / SOURCE.scale
    off = np.abs((layer.bias + SOURCE.zero * weight) / weight - steps)
    assert off.mean() < 1 / 254 / 20
    assert off.max() * SOURCE.scale / RESULT.scale <= error < 1 / 254
    values = np.arange(-128, 128)[:, np.newaxis]
    wanted = np.rint((values - SOURCE.zero + steps) * SOURCE.scale / RESULT.scale) + RESULT.zero
    found = layer.bias + values * weight
    scaled = np.floor(found * layer.mult / 2.0**layer.shift + 0.5) + RESULT.zero
    equal = np.clip(scaled, -128, 127) == np.clip(wanted, -128, 127)
    assert equal.mean() > 0.9995


def test_factors_may_be_negative_or_nothing() -> None:
    layer, _ = _made(np.array([0.01, 0.01, 0.5]), np.array([-1.5, 0.0, 1.0]))
    weight = layer.weight[:, 0, 0, 0]
    assert weight[0] < 0 == weight[1] < weight[2]
    value = (layer.bias + 10 * weight) * layer.mult / 2.0**layer.shift * RESULT.scale
    wanted = np.array([-1.5 * 7 * SOURCE.scale + 0.01, 0.01, 7 * SOURCE.scale + 0.5])
    assert np.abs(value - wanted).max() < RESULT.scale / 250
