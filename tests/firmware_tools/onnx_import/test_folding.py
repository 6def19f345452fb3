"""Operators of constants, by hand."""

from typing import Any

import numpy as np
import pytest

from firmware_tools.onnx_import.folding import fold
from firmware_tools.onnx_import.nodes import Node, OnnxError


def folded(op: str, *inputs: Any, names: tuple[str, ...] = (), **attributes: Any) -> Any:
    arrays = tuple(np.asarray(value) for value in inputs)
    names = names or tuple(f"k{k}" for k in range(len(arrays)))
    found = fold(Node("own", op, names, ("y",), attributes), arrays)
    assert isinstance(found, np.ndarray)
    return found.tolist()


@pytest.mark.parametrize(
    ("op", "inputs", "expected"),
    [
        ("Shape", [np.zeros((2, 3, 4))], [2, 3, 4]),
        ("Range", [1, 8, 3], [1, 4, 7]),
        ("Range", [3, 0, -2], [3, 1]),
        ("Tile", [[1, 2], [2]], [1, 2, 1, 2]),
        ("Floor", [[1.5, -1.5]], [1, -2]),
        ("Ceil", [[1.5, -1.5]], [2, -1]),
        ("Mod", [[7, -7], 4], [3, 1]),
        ("Max", [[1, 5], [4, 2], [3, 3]], [4, 5]),
        ("Min", [[1, 5], [4, 2], [3, 3]], [1, 2]),
        ("ReduceProd", [[2, 3, 4]], [24]),
        ("Clip", [[-9, 3, 9], -4, 5], [-4, 3, 5]),
        ("Expand", [[[1], [2]], [1, 2]], [[1, 1], [2, 2]]),
        ("Equal", [[1, 2], 2], [False, True]),
        ("Where", [[True, False], 1, 2], [1, 2]),
        ("Div", [[7, -7], 2], [3, -4]),
        ("Cast", [[1.5]], [1.5]),
        ("ConstantOfShape", [[2]], [0, 0]),
    ],
)
def test_by_hand(op, inputs, expected) -> None:
    assert folded(op, *inputs) == expected


def test_attributes() -> None:
    shape = np.zeros((2, 3, 4))
    assert folded("Shape", shape, start=1, end=-1) == [3]
    assert folded("ReduceProd", [[2, 3], [4, 5]], axes=[1], keepdims=0) == [6, 20]
    assert folded("Clip", [-9.0, 9.0], min=-1.0, max=2.0) == [-1, 2]
    assert folded("Clip", [-9, 9], 4, names=("x", "", "high")) == [-9, 4]


@pytest.mark.parametrize(
    ("op", "inputs", "text"),
    [
        ("ConstantOfShape", [[10**6, 10**6]], "at most 67108864 values, not 1000000000000"),
        ("Expand", [1.0, [10**5, 10**5]], "at most 67108864 values, not 10000000000"),
        ("Tile", [[1.0], [10**9]], "at most 67108864 values, not 1000000000"),
        ("Range", [0, 10**9, 1], "at most 67108864 values, not 1000000000.0"),
        ("Add", [np.zeros((10**5, 1)), np.zeros(10**5)], "at most 67108864 values, not"),
        ("Range", [0, 9, 0], "its constants do not fit each other"),
        ("Add", [[1, 2], [1, 2, 3]], "its constants do not fit each other"),
        ("ReduceProd", [[1, 2], [4]], "its constants do not fit each other"),
        ("Div", [[1, 2], 0], "must not divide by 0"),
        ("Concat", [], "must have an input"),
    ],
)
def test_refused(op, inputs, text) -> None:
    with pytest.raises(OnnxError, match=f"^node 'own' \\({op}\\): .*{text}"):
        folded(op, *inputs)
