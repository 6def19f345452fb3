"""Layers of small transformers, with everything that a test does not say."""

from typing import Any

import numpy as np

from model.mars.network import Conv, LayerNorm, MatMul, Softmax


def matmul(name: str = "m", source: str = "input", operand: str = "input", **fields: Any) -> MatMul:
    scale = {"mult": 1, "shift": 4, "out_bits": 8, "out_signed": True}
    return MatMul(name=name, input=source, operand=operand, **scale | fields)


def softmax(name: str = "s", source: str = "input", **fields: Any) -> Softmax:
    usual = {"octaves": 9000, "mult": 1, "shift": 8, "out_bits": 8, "out_signed": False}
    return Softmax(name=name, input=source, **usual | fields)


def norm(n: int, name: str = "n", source: str = "input", **fields: Any) -> LayerNorm:
    arrays = {"bias": np.zeros(n, np.int64), "mult": np.full(n, 33), "shift": np.full(n, 14)}
    return LayerNorm(
        name=name, input=source, **arrays | {"out_bits": 8, "out_signed": True} | fields
    )


def linear(name: str, source: str, n_kernels: int, n: int, seed: int = 0, **fields: Any) -> Conv:
    rng = np.random.default_rng(seed)
    usual = {"weight_bits": 4, "out_bits": 8, "out_signed": True}
    return Conv(
        name=name,
        input=source,
        weight=rng.integers(-8, 8, (n_kernels, n, 1, 1)),
        bias=np.zeros(n_kernels, np.int64),
        mult=np.full(n_kernels, 900),
        shift=np.full(n_kernels, 15),
        **usual | fields,
    )
