"""Imports quantised ONNX models, as onnxruntime's static quantiser writes them in QDQ form."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firmware_tools.onnx_import.graph import OnnxError
from firmware_tools.onnx_import.graph import load as load_graph
from firmware_tools.onnx_import.lowering import lower
from model.mars.network import INPUT, Ints, QuantizedNetwork

__all__ = ["Imported", "OnnxError", "load"]


@dataclass(frozen=True, eq=False)
class Imported:
    """A network and what its integers stand for: value = scale * (integer - zero).

    Parameters
    ----------
    network : QuantizedNetwork
        `network.scales` has the scales of all layers and of the input.
    zeros : {str: int}
        By layer, and "input".
    errors : {str: float}
        By layer: steps of its result by which multipliers and biases of the chip change a value
        before rounding, at most; above 0.5 a result may be off by more than one step.
    """

    network: QuantizedNetwork
    zeros: dict[str, int]
    errors: dict[str, float]

    def quantize(self, inputs: NDArray[np.floating]) -> Ints:
        """The network's input, (N, C, H, W), for that of the ONNX model."""
        kind = self.network.input_type
        steps = np.rint(inputs.astype(np.float32) / np.float32(self.network.scales[INPUT]))
        stored = np.clip(steps + self.zeros[INPUT], kind.low, kind.high)
        images: Ints = stored.astype(np.int64).reshape(-1, *kind.shape)
        return images

    def dequantize(self, results: Ints) -> NDArray[np.float64]:
        """What the output layer's results stand for."""
        name = self.network.output
        centred: NDArray[np.float64] = (results - self.zeros[name]).astype(np.float64)
        return centred * self.network.scales[name]


def load(path: Path | str, *, fuse_residuals: bool = False) -> Imported:
    """Import a model.

    Parameters
    ----------
    path : path
    fuse_residuals : bool
        Let convolutions that feed nothing but an Add do the adding. That saves a layer, but drops
        a rounding, and multipliers have fewer bits: `Imported.errors` tells. Otherwise a 1x1
        convolution with the identity adds, as exactly as the other layers.

    Raises
    ------
    OnnxError
        The file is damaged, or something in it is not supported; the text names file and node.
    OSError
        The file cannot be read.
    """
    try:
        lowered = lower(load_graph(Path(path)), fuse_residuals=fuse_residuals)
    except OnnxError as error:
        raise OnnxError(f"{path}: {error}") from None
    return Imported(lowered.network, lowered.zeros, lowered.errors)
