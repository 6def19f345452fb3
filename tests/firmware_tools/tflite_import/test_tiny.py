"""MLPerf Tiny's reference models against the results of TensorFlow Lite's reference kernels."""

from pathlib import Path

import numpy as np
import pytest

from firmware_tools.imported import Array, ModelImport
from firmware_tools.mars.pass_difference import Compared, compare_model
from firmware_tools.tflite_import import load
from model.mars import reference
from model.mars.config import CONFIGS
from model.mars.mapper import compile_network

FOLDER = Path(__file__).parents[2] / "vectors" / "tiny"
MODELS = ("pretrainedResnet_quant", "kws_ref_model", "vww_96_int8", "ad01_int8")
NARROW = {
    "pretrainedResnet_quant": (6, 0.34),
    "kws_ref_model": (1, 0.74),
    "vww_96_int8": (3, 0.72),
    "ad01_int8": (1, 0.99),
}
"""With 16-bit multipliers that round once, as measured: the largest difference in steps, which
should be 1, and a share of equal outputs that is reached."""


def vectors(name: str) -> tuple[Array, Array]:
    """Inputs, and outputs before the softmax."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return file["x"], file["before_softmax"]


def results(model: ModelImport, inputs: Array) -> Array:
    values = reference.run(model.network, model.to_network(inputs))
    return model.from_network(values[model.network.output])


@pytest.mark.parametrize("name", MODELS)
def test_wide_multipliers_give_the_same_integers(name: str) -> None:
    model = load(FOLDER / f"{name}.tflite", wide=True)
    inputs, expected = vectors(name)
    actual = results(model, inputs)
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("name", MODELS)
def test_narrow_multipliers_are_near(name: str) -> None:
    model = load(FOLDER / f"{name}.tflite")
    inputs, expected = vectors(name)
    actual = results(model, inputs).astype(int)
    steps = np.abs(actual - expected)
    most, share = NARROW[name]
    assert steps.max() <= most
    assert (steps == 0).mean() >= share
    np.testing.assert_array_equal(actual.argmax(axis=1), expected.argmax(axis=1))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("config", ["mars", "mars-wide"])
def test_golden_machine(name: str, config: str) -> None:
    chip = CONFIGS[config]
    model = load(FOLDER / f"{name}.tflite", wide=chip.wide_multiplier)
    image = compile_network(model.network, chip)
    inputs, _ = vectors(name)
    features = model.to_network(inputs[:1])[0]
    assert compare_model(model.network, image, features, Compared()) is None


def test_real_inputs_are_quantised() -> None:
    model = load(FOLDER / "ad01_int8.tflite", wide=True)
    inputs, _ = vectors("ad01_int8")
    scale = model.network.scales["input"]
    real = (inputs.astype(np.float32) - 89) * np.float32(scale)
    np.testing.assert_array_equal(model.to_network(real), model.to_network(inputs))


def test_softmax_is_said_to_be_left_out() -> None:
    (note,) = load(FOLDER / "kws_ref_model.tflite").report
    assert note == (
        "operator 12 (SOFTMAX, 'Identity') is left to the host: results are those before it"
    )
