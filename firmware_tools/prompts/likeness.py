"""How like few prompts are to all of them, and the chip's attention to that of real numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from firmware_tools.quantize.token_layers import SoftMax, tokens_of
from firmware_tools.quantize.twin import Twin
from firmware_tools.quantize.vit import DEPTH, N_TOKENS
from firmware_tools.similarity.compare import compare
from firmware_tools.similarity.features import Subject
from model.mars import reference
from model.mars.network import Ints, QuantizedNetwork

Matrix = NDArray[np.float64]
BATCH = 64
"""Images of a minibatch of CKA."""


def cka_by_block(one: QuantizedNetwork, other: QuantizedNetwork, inputs: Ints) -> dict[str, float]:
    """CKA of what each block makes of class token and patches, and of the logits."""
    found = compare(_subject(one, inputs), _subject(other, inputs), "layer", BATCH)
    return {pair.first.layer: pair.cka for pair in found.pairs if pair.cka is not None}


def _subject(network: QuantizedNetwork, inputs: Ints) -> Subject:
    def run(some: Ints, _first: int) -> Mapping[str, Ints]:
        values = reference.run(network, some)
        blocks = {f"block {k + 1}": values[f"blocks.{k}.linear2"] for k in range(DEPTH)}
        own = {name: tokens[:, :, -N_TOKENS:] for name, tokens in blocks.items()}
        return {**own, "logits": values[network.output]}

    return Subject(inputs, run, {})


@dataclass(frozen=True)
class Attention:
    """How much each token of a block takes of which, in the mean of the heads.

    Attributes
    ----------
    real, integer : (T, T) float
        From real numbers, and the chip's integers; rows are the tokens that take.
    """

    real: Matrix
    integer: Matrix


def attention(twin: Twin, image: Tensor) -> list[Attention]:
    """Of each block, for an image (1, 1, 8, 8); real numbers have the same parameters."""
    integer = _maps(twin, image)
    twin.smooth()
    real = _maps(twin, image)
    twin.smooth(on=False)
    return [Attention(*both) for both in zip(real, integer, strict=True)]


def _maps(twin: Twin, image: Tensor) -> list[Matrix]:
    features = twin.features(image)
    return [
        tokens_of(features[one.name].real.detach())[0]
        .unflatten(1, (one.heads, -1))
        .mean(1)
        .double()
        .numpy()
        for one in twin.steps()
        if isinstance(one, SoftMax)
    ]
