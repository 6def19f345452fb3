"""Models as Keras exports them today, against TensorFlow Lite's reference kernels."""

from pathlib import Path

import numpy as np
import pytest

from firmware_tools.imported import Array, ModelImport
from firmware_tools.mars.pass_difference import Compared, compare_model
from firmware_tools.tflite_import import TfliteError, load
from model.mars import reference
from model.mars.config import CONFIGS
from model.mars.mapper import compile_network

FOLDER = Path(__file__).parents[2] / "vectors" / "keras"
GOOD = sorted(path.stem for path in FOLDER.glob("*.npz"))
WITHIN = 2
"""Steps by which 16-bit multipliers may be off (measured)."""


def vectors(name: str) -> tuple[Array, Array]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return file["x"], file["expected"]


def results(model: ModelImport, inputs: Array) -> Array:
    values = reference.run(model.network, model.to_network(inputs))
    return model.from_network(values[model.network.output])


@pytest.mark.parametrize("name", GOOD)
def test_wide_multipliers_give_the_same_values(name: str) -> None:
    model = load(FOLDER / f"{name}.tflite", wide=True)
    inputs, expected = vectors(name)
    actual = results(model, inputs)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(actual, expected)
    assert all(note.endswith("results are those before it") for note in model.report)


@pytest.mark.parametrize("name", GOOD)
def test_narrow_multipliers_are_near(name: str) -> None:
    model = load(FOLDER / f"{name}.tflite")
    inputs, expected = vectors(name)
    step = model.network.scales[model.network.output] if expected.dtype.kind == "f" else 1
    steps = np.abs(results(model, inputs).astype(float) - expected) / step
    assert steps.max() <= WITHIN + 1e-3


@pytest.mark.parametrize("name", GOOD)
def test_golden_machine(name: str) -> None:
    model = load(FOLDER / f"{name}.tflite", wide=True)
    image = compile_network(model.network, CONFIGS["mars-wide"])
    features = model.to_network(vectors(name)[0][:1])[0]
    assert compare_model(model.network, image, features, Compared()) is None


def test_a_dilated_convolution_in_blocks_is_one_layer() -> None:
    first = load(FOLDER / "dilated.tflite", wide=True).network.layers[0]
    assert (first.dilation, first.padding) == ((2, 2), (2, 2, 2, 2))  # type: ignore[union-attr]


def test_integers_for_an_unsigned_input() -> None:
    """A QUANTIZE between uint8 and int8 is done by the host."""
    model = load(FOLDER / "flat.tflite")
    inputs = np.array([[0, 255] * 98], np.uint8)
    np.testing.assert_array_equal(model.to_network(inputs).reshape(-1), [-128, 127] * 98)
    with pytest.raises(ValueError, match=r"inputs must be 0\.\.255"):
        model.to_network(inputs.astype(np.int64) + 1)


def test_real_inputs_tie_away_from_zero() -> None:
    model = load(FOLDER / "channels_first.tflite")
    scale = np.float32(model.network.scales["input"])
    near = [
        model.to_network(np.full((1, 3, 12, 12), k * scale))[0, 0, 0, 0] for k in (0, 0.5, -0.5)
    ]
    assert [int(near[1] - near[0]), int(near[2] - near[0])] == [1, -1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "dynamic",
            r"input '.*': shape must be \(1, \.\.\.\) with fixed sizes but for the batch, "
            r"not \(-1, -1, -1, 3\) \(dynamic shapes cannot be mapped\)",
        ),
        ("float", r"operator 0 \(CONV_2D, '.*'\): .* full-integer, not a float model: activations"),
        ("hybrid", r"operator 0 \(FULLY_CONNECTED, '.*'\): .* full-integer, not hybrid: .* INT8"),
        ("int16", r"must be INT8 or UINT8, not INT16: activations of 16 bit do not fit"),
        ("outputs", r"the model must have one output, not 2: 'Stateful.*', 'Stateful.*'"),
        (
            "edges",
            r"operator 1 \(AVERAGE_POOL_2D, '.*'\): padding must be VALID, or SAME where it adds "
            r"nothing, not \(0, 0, 1, 1\)",
        ),
        (
            "product",
            r"operator 2 \(MUL, '.*'\): one input must be constant, or both be functions of the "
            "same tensor",
        ),
        (
            "upwards",
            r"operator 3 \(TRANSPOSE_CONV, '.*'\) is not supported: operators must be among ABS, ",
        ),
    ],
)
def test_what_is_refused(name: str, text: str) -> None:
    with pytest.raises(TfliteError, match=rf"bad_{name}\.tflite: .*{text}"):
        load(FOLDER / f"bad_{name}.tflite")
