"""What importers return: a network, and how its input and output look in the user's model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.mars.network import Ints, QuantizedNetwork

if TYPE_CHECKING:
    from firmware_tools.nir_import import Choices

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ModelImport:
    """A network out of a user's model.

    Parameters
    ----------
    network : QuantizedNetwork
    to_network : callable
        From inputs as the model takes them, (N, ...), integers or real numbers, to (N, C, H, W).
    from_network : callable
        From the network's results, (N, C, H, W), to the model's output, (N, ...), integers.
    report : tuple of str
        What the user should know: what was left out, what is not exact.
    """

    network: QuantizedNetwork
    to_network: Callable[[Array], Ints]
    from_network: Callable[[Ints], Array]
    report: tuple[str, ...] = field(default=())


def images_of(inputs: Array, shape: tuple[int, ...]) -> Array:
    """Inputs of a model as (N, *shape), which they are, or one image.

    Raises
    ------
    ValueError
        They have another shape, another order of axes say.
    """
    if shape not in {inputs.shape, inputs.shape[1:]}:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"shape must be (N, {wanted}), not {inputs.shape}")
    return inputs.reshape(-1, *shape)


def quantized(values: Array, scale: float, zero: int, low: int, high: int) -> Ints:
    """Integers for values of a model: integers stay as they are, real numbers are rounded."""
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    steps = np.rint(values.astype(np.float32) / np.float32(scale)) + zero
    result: Ints = np.clip(steps, low, high).astype(np.int64)
    return result


def is_tflite(path: Path) -> bool:
    """Whether a file is a TensorFlow Lite model, by its content."""
    from firmware_tools.tflite_import.graph import IDENTIFIER

    if not path.is_file():
        return path.suffix == ".tflite"
    with path.open("rb") as file:
        return file.read(8)[4:] == IDENTIFIER or path.suffix == ".tflite"


def is_nir(path: Path) -> bool:
    """Whether a file is a NIR graph, which is HDF5, by its content."""
    from firmware_tools.nir_import.graph import MAGIC

    if not path.is_file():
        return path.suffix == ".nir"
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC or path.suffix == ".nir"


def load(path: Path, *, wide: bool, choices: Choices | None = None) -> ModelImport:
    """Import a model: a NIR graph, TensorFlow Lite's or an ONNX one.

    Parameters
    ----------
    path : Path
    wide : bool
        31-bit multipliers, for models of numbers.
    choices : Choices, optional
        For NIR, what the file leaves open.

    Raises
    ------
    UserError
        What the importers raise.
    OSError
        The file cannot be read.
    """
    if is_nir(path):
        from firmware_tools import nir_import

        return nir_import.load(path, choices)
    if is_tflite(path):
        from firmware_tools import tflite_import

        return tflite_import.load(path, wide=wide)
    from firmware_tools import onnx_import

    return onnx_import.load(path, wide=wide)
