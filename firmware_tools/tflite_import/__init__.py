"""Imports full-integer TensorFlow Lite models."""

from pathlib import Path

import numpy as np

from firmware_tools.imported import ModelImport
from firmware_tools.requantization import FactorError
from firmware_tools.tflite_import import elementwise, ends, moving, pools, prelu, products
from firmware_tools.tflite_import.graph import DAMAGED, Graph, TfliteError
from firmware_tools.tflite_import.graph import load as load_graph
from firmware_tools.tflite_import.lowering import Handler, Lowering

LONGEST = 1000
"""Characters of an error."""
HANDLERS: dict[str, Handler] = {
    **products.HANDLERS,
    **pools.HANDLERS,
    **elementwise.HANDLERS,
    **prelu.HANDLERS,
    **moving.HANDLERS,
    **ends.HANDLERS,
}
__all__ = ["TfliteError", "load"]


def load(path: Path | str, *, wide: bool = False) -> ModelImport:
    """Import a model.

    Parameters
    ----------
    path : path
    wide : bool
        31-bit multipliers and two roundings, as TensorFlow Lite's reference kernels have; they need
        a configuration with wide multipliers. Otherwise the nearest 16-bit multipliers.

    Raises
    ------
    TfliteError
        The file is damaged, or something in it is not supported; the text names file and operator.
    OSError
        The file cannot be read.
    """
    try:
        with np.errstate(all="ignore"):  # scales in a damaged file may be any floats
            graph = load_graph(Path(path))
            return _lowered(graph, wide=wide)
    except (TfliteError, FactorError) as error:
        line = " ".join(str(error).split())  # names in a damaged file may hold anything
        shown = line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."
        raise TfliteError(f"{path}: {shown}") from None


def _lowered(graph: Graph, *, wide: bool) -> ModelImport:
    try:
        return Lowering(graph, wide=wide).run(HANDLERS)
    except DAMAGED as error:
        detail = (str(error) or type(error).__name__).splitlines()[0]
        raise TfliteError(
            f"must be a whole TensorFlow Lite model: cut or damaged? ({detail})"
        ) from None
