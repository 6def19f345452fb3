"""Compares an imported network with onnxruntime, which runs the model it was imported from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firmware_tools.imported import images_of
from firmware_tools.onnx_import import Imported
from firmware_tools.onnx_import.nodes import Array, OnnxError
from model.mars import reference
from model.mars.network import RAW_BITS

_TYPES = {"tensor(int8)": np.int8, "tensor(uint8)": np.uint8}
CPU_INFO = Path("/proc/cpuinfo")
ENOUGH = 0.999
"""Share of the outputs that must be within one step."""


@dataclass(frozen=True)
class Agreement:
    """How often the network's results and onnxruntime's, in steps of the output, agree.

    A step of results that are accumulators is 1/255 of their range.

    Parameters
    ----------
    images, outputs : int
        How many were compared.
    top1_equal, equal, within_one, within_two : float
        Shares: of the images whose first largest output is the same, of equal outputs, and of
        outputs that differ by one step or less, or two.
    largest : int
        Largest difference in steps.
    """

    images: int
    outputs: int
    top1_equal: float
    equal: float
    within_one: float
    within_two: float
    largest: int

    @property
    def is_good(self) -> bool:
        """Whether the import is what it is meant to be."""
        return self.top1_equal == 1 and self.within_one >= ENOUGH


def load_inputs(path: Path, imported: Imported) -> Array:
    """Inputs of the model, (N, ...) float32, from an `.npy` file."""
    try:
        inputs: object = np.load(path, allow_pickle=False)
    except (ValueError, EOFError):
        raise OnnxError(f"{path}: must be an .npy file of numbers, cut or damaged?") from None
    if not isinstance(inputs, np.ndarray) or inputs.dtype.kind not in "fiu":
        raise OnnxError(f"{path}: must be an .npy file of numbers")
    try:
        images = images_of(inputs, imported.input_shape)
    except ValueError as error:
        raise OnnxError(f"{path}: {error}") from None
    if not images.size:
        raise OnnxError(f"{path}: must have at least one image")
    if not np.isfinite(images).all():
        raise OnnxError(f"{path}: values must be finite")
    kind = imported.network.input_type
    if imported.takes_integers and not kind.low <= images.min() <= images.max() <= kind.high:
        raise OnnxError(
            f"{path}: values must be {kind.low}..{kind.high}, integers of the model's input, not "
            f"{images.min():g}..{images.max():g}"
        )
    return images.astype(np.float32)


def has_exact_kernels() -> bool:
    """Whether onnxruntime's integer kernels are exact on this processor.

    Those for x86 without VNNI saturate sums of two products at 16 bit.
    """
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        return True
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not flags or "vnni" in flags


def compare(
    path: Path, imported: Imported, inputs: Array, *, optimize: bool | None = None
) -> Agreement:
    """Run both.

    Parameters
    ----------
    path : Path
        The ONNX model.
    imported : Imported
        What was made of it.
    inputs : (N, ...) float
    optimize : bool or None
        Let onnxruntime fuse quantised operators into integer kernels; otherwise it computes each
        in float32. None does so where the kernels are exact.
    """
    if optimize is None:
        optimize = has_exact_kernels()
    expected = run_onnxruntime(path, inputs, optimize=optimize, tensor=imported.tensor)
    network = imported.network
    results = reference.run(network, imported.quantize(inputs))[network.output]
    found = imported.from_network(results).reshape(len(results), -1)
    wanted = expected.reshape(found.shape).astype(np.float64)
    if not imported.is_integer:
        scale, zero = network.scales[network.output], imported.zeros[network.output]
        wanted = np.rint(wanted / scale) + zero
    difference = np.abs(found - wanted)
    if network.types[network.output].bits == RAW_BITS:
        difference = np.rint(difference * 255 / max(float(np.ptp(wanted)), 255.0))
    return Agreement(
        images=len(found),
        outputs=found.size,
        top1_equal=float((found.argmax(axis=1) == wanted.argmax(axis=1)).mean()),
        equal=float((difference == 0).mean()),
        within_one=float((difference <= 1).mean()),
        within_two=float((difference <= 2).mean()),
        largest=int(difference.max()),
    )


def run_onnxruntime(
    path: Path, inputs: Array, *, optimize: bool = True, tensor: str | None = None
) -> Array:
    """What onnxruntime computes, on one core; parameters as in `compare`.

    `tensor` is another one than the output.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError:
        raise OnnxError(
            "the package onnxruntime must be installed: pip install onnxruntime"
        ) from None
    model = onnx.load(path)
    if tensor is not None and tensor != model.graph.output[0].name:
        model.graph.output.insert(0, onnx.ValueInfoProto(name=tensor))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not optimize:
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return np.concatenate(_results(session, path, inputs))
    except OnnxError:
        raise
    except Exception as error:  # noqa: BLE001  (its errors have no class in common)
        line = " ".join(str(error).split())
        raise OnnxError(f"{path}: must be a model that onnxruntime runs: {line}") from None


def _results(session: Any, path: Path, inputs: Array) -> list[Array]:
    """Those of a session, of as many images at once as the model takes."""
    entry = session.get_inputs()[0]
    batch, *shape = entry.shape
    images = inputs.reshape(-1, *shape).astype(_TYPES.get(entry.type, np.float32))
    size = batch if isinstance(batch, int) and batch > 0 else len(images)
    if len(images) % size:
        raise OnnxError(f"{path}: number of images must be a multiple of {size}, not {len(images)}")
    return [
        session.run(None, {entry.name: images[k : k + size]})[0]
        for k in range(0, len(images), size)
    ]
