"""Imports quantised ONNX models, as onnxruntime's static quantiser writes them."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firmware_tools.imported import ModelImport, images_of
from firmware_tools.onnx_import.graph import load as load_graph
from firmware_tools.onnx_import.lowering import Lowered, lower
from firmware_tools.onnx_import.nodes import Array, OnnxError
from model.mars.network import INPUT, Ints

__all__ = ["Imported", "OnnxError", "load"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Imported(ModelImport):
    """A network and what its integers stand for: value = scale * (integer - zero).

    Parameters
    ----------
    network, to_network, from_network, report
        As in `ModelImport`; `network.scales` has the scales of all layers and of the input.
    zeros : {str: int}
        By layer, and "input".
    errors : {str: float}
        By layer: steps of its result by which multipliers and biases of the chip change a value
        before rounding, at most; above 0.5 a result may be off by more than one step.
    input_shape : tuple of int
        Of the ONNX model's input, without the batch.
    tensor : str
        The output's name in the ONNX graph; that of what a final Softmax reads.
    is_integer : bool
        Whether it is integers there.
    takes_integers : bool
        Whether the ONNX model's input is.
    """

    zeros: dict[str, int]
    errors: dict[str, float]
    input_shape: tuple[int, ...]
    tensor: str
    is_integer: bool
    takes_integers: bool

    def quantize(self, inputs: Array) -> Ints:
        """The network's input, (N, C, H, W), for that of the ONNX model."""
        return self.to_network(inputs)

    def dequantize(self, results: Ints) -> NDArray[np.float64]:
        """What the output layer's results stand for, in the shape that they have in the model."""
        name = self.network.output
        centred = (self.from_network(results) - self.zeros[name]).astype(np.float64)
        real: NDArray[np.float64] = centred * self.network.scales[name]
        return real


def load(path: Path | str, *, wide: bool = False) -> Imported:
    """Import a model.

    Parameters
    ----------
    path : path
    wide : bool
        For a configuration whose multipliers have 31 bits rather than 16.

    Raises
    ------
    OnnxError
        The file is damaged, or something in it is not supported; the text names file and node.
    OSError
        The file cannot be read.
    """
    try:
        lowered = lower(load_graph(Path(path)), wide=wide)
    except OnnxError as error:
        raise OnnxError(f"{path}: {error}") from None
    network = lowered.network
    return Imported(
        network,
        lambda inputs: _to_network(lowered, inputs),
        lambda results: _from_network(lowered, results),
        lowered.notes,
        zeros={name: lowered.grids[name].zero for name in network.types},
        errors={name: lowered.errors[name] for name in network.types if name != INPUT},
        input_shape=lowered.input.dims,
        tensor=lowered.tensor,
        is_integer=lowered.output_is_integer,
        takes_integers=lowered.input_is_integer,
    )


def _to_network(lowered: Lowered, inputs: Array) -> Ints:
    grid, view = lowered.grids[INPUT], lowered.input
    flat = images_of(np.asarray(inputs), view.dims).reshape(-1, prod(view.dims))
    images = flat[:, view.indices.ravel().argsort()]
    if not lowered.input_is_integer:
        images = images.astype(np.float32)
        with np.errstate(all="ignore"):
            for step in lowered.steps:
                images = step(images).astype(np.float32)
        images = grid.quantize(images)
    return images.reshape(-1, *view.shape).astype(np.int64)


def _from_network(lowered: Lowered, results: Ints) -> Array:
    view = lowered.output
    flat = results.reshape(-1, prod(view.shape))
    return flat[:, view.indices.ravel()].reshape(-1, *view.dims)
