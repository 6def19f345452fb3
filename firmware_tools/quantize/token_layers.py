"""Layers of transformers that compute, while they are trained, what the accelerator computes.

As those of `firmware_tools.quantize.layers`: forward the integers of `model.mars.reference`,
backward the way of the real numbers. Tokens are the pixels of a map (N, C, T, 1).
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from firmware_tools.quantize.layers import (
    EXACT_FLOAT32,
    Feature,
    Floats,
    Ints,
    Layer,
    replaced,
    requantise,
)
from firmware_tools.quantize.quantizers import Quantizer, StraightThrough, round_half_up
from firmware_tools.quantize.tracing import Step
from model.mars import network as mars
from model.mars import rows
from model.mars.network import FeatureType

Scales = Mapping[str, float]
Types = Mapping[str, FeatureType]


def tokens_of(maps: Tensor) -> Tensor:
    """(N, C, H, W) as (N, T, C)."""
    return maps.flatten(2).transpose(1, 2)


def map_of(tokens: Tensor, like: Tensor | None = None) -> Tensor:
    """(N, T, C) as a map of the size of another, or as one column."""
    size = (-1, 1) if like is None else like.shape[2:]
    return cast("Tensor", tokens.transpose(1, 2).unflatten(2, size))


class Probability(StraightThrough):
    """Of probabilities: its scale is 2^-bits and stays so."""

    def __init__(self, bits: int) -> None:
        super().__init__(bits, signed=False)
        self.start(torch.ones(1))

    def first_scale(self, x: Tensor) -> Tensor:
        return x.new_tensor(2.0**-self.bits)


class TokenLayer(Layer):
    """A layer of tokens without weights."""

    activation: Quantizer

    def forward(self, features: Mapping[str, Feature]) -> Feature:
        z = self._real(features)
        if self.smooth:
            return Feature(z, 1.0)
        self._meet(z)
        return self._requantised(z, self._exact(features))

    def _real(self, features: Mapping[str, Feature]) -> Tensor:
        """Real results."""
        raise NotImplementedError

    def _exact(self, features: Mapping[str, Feature]) -> Tensor:
        """The accelerator's integers."""
        raise NotImplementedError

    def exported(self, scales: Scales, types: Types) -> list[mars.Layer]:
        """The layers of the file, the last of which is this one."""
        raise NotImplementedError

    def _factor(self, factor: float) -> tuple[int, int]:
        """Multiplier and shift of the hardware for one factor."""
        mult, shift, _ = self._hardware(np.array([factor / float(self.activation.step)]))
        return int(mult[0]), int(shift[0])

    def _scaled(self, total: Tensor, factor: float) -> Tensor:
        """Sums as results."""
        mult, shift = self._factor(factor)
        power = torch.tensor(2.0**shift, dtype=torch.float64)
        return requantise(total.double(), torch.tensor(mult), power, self._limits())

    def _results(self) -> dict[str, Any]:
        """Fields of the file that all have."""
        return {
            "name": self.name,
            "input": self.source,
            "out_bits": self.activation.bits,
            "out_signed": self.activation.signed,
        }


class Normalisation(TokenLayer):
    """Channels of each token less their mean, over their standard deviation."""

    def __init__(self, step: Step, activation: Quantizer) -> None:
        super().__init__(step)
        self.activation = activation
        assert isinstance(step.module, nn.LayerNorm)
        self.epsilon = step.module.eps
        self._taken_in: tuple[Tensor | None, Tensor | None]
        self._taken_in = step.module.weight, step.module.bias

    def _real(self, features: Mapping[str, Feature]) -> Tensor:
        source = features[self.source].real
        tokens = tokens_of(source)
        return map_of(functional.layer_norm(tokens, tokens.shape[-1:], eps=self.epsilon), source)

    def _exact(self, features: Mapping[str, Feature]) -> Tensor:
        source = features[self.source]
        values = tokens_of(source.ints.detach()).numpy().astype(np.int64)
        epsilon = self.epsilon_ints(values.shape[-1], source.scale)
        normal = torch.from_numpy(rows.normalise(values, epsilon))
        return self._scaled(map_of(normal, source.ints), 2.0**-rows.NORMAL_BITS)

    def likeness(self, feature: Feature) -> Tensor:
        """What a float network has, whose readers have not taken in factors and summands."""
        factor, added = (None if one is None else one.detach() for one in self._taken_in)
        result = feature.real if factor is None else feature.real * factor[:, None, None]
        return result if added is None else result + added[:, None, None]

    def epsilon_ints(self, channels: int, scale: float) -> int:
        """What is added to the variance times the square of the number of channels."""
        return round(min(self.epsilon * (channels / scale) ** 2, rows.EPSILON_MAX))

    def exported(self, scales: Scales, types: Types) -> list[mars.Layer]:
        channels = types[self.source].shape[0]
        mult, shift = self._factor(2.0**-rows.NORMAL_BITS)
        return [
            mars.LayerNorm(
                **self._results(),
                epsilon=self.epsilon_ints(channels, scales[self.source]),
                bias=np.zeros(channels, np.int64),
                mult=np.full(channels, mult),
                shift=np.full(channels, shift),
            )
        ]


class MapProduct(TokenLayer):
    """Products of two maps, head by head: scores, or values weighted by probabilities."""

    def __init__(self, step: Step, activation: Quantizer, operand: FeatureType) -> None:
        super().__init__(step)
        self.activation = activation
        self.transposed = step.op == "scores"
        self.heads = int(step.module.heads)  # type: ignore[union-attr, arg-type]
        self._largest = operand.magnitude

    def _real(self, features: Mapping[str, Feature]) -> Tensor:
        source, operand = self._operands(features)
        first, second = (one.ints * one.scale for one in (source, operand))
        return self._multiplied(first, second) * self._divided(first)

    def _exact(self, features: Mapping[str, Feature]) -> Tensor:
        source, operand = self._operands(features)
        first, second = source.ints.detach(), operand.ints.detach()
        n_products = first.shape[1] // self.heads
        most = n_products * (1 << mars.MAX_BITS) * self._largest
        if most >= EXACT_FLOAT32:
            first, second = first.double(), second.double()
        factor = source.scale * operand.scale * self._divided(first)
        return self._scaled(self._multiplied(first, second), factor)

    def _operands(self, features: Mapping[str, Feature]) -> tuple[Feature, Feature]:
        assert self.skip is not None
        return features[self.source], features[self.skip]

    def _divided(self, first: Tensor) -> float:
        """What scores are multiplied by."""
        return (first.shape[1] // self.heads) ** -0.5 if self.transposed else 1.0

    def _multiplied(self, first: Tensor, second: Tensor) -> Tensor:
        left, right = (
            tokens_of(one).unflatten(2, (self.heads, -1)).transpose(1, 2) for one in (first, second)
        )
        products = left @ (right.transpose(2, 3) if self.transposed else right)
        return map_of(products.transpose(1, 2).flatten(2), first)

    def exported(self, scales: Scales, types: Types) -> list[mars.Layer]:
        assert self.skip is not None
        factor = scales[self.source] * scales[self.skip]
        if self.transposed:
            factor *= (types[self.source].shape[0] // self.heads) ** -0.5
        mult, shift = self._factor(factor)
        fields: dict[str, Any] = {
            "transposed": self.transposed,
            "heads": self.heads,
            "mult": mult,
            "shift": shift,
        }
        return [mars.MatMul(**self._results(), operand=self.skip, **fields)]


class SoftMax(TokenLayer):
    """Probabilities of each head's scores."""

    def __init__(self, step: Step, bits: int) -> None:
        super().__init__(step)
        self.activation = Probability(bits)
        self.heads = int(step.module.heads)  # type: ignore[union-attr, arg-type]

    def _real(self, features: Mapping[str, Feature]) -> Tensor:
        scores = features[self.source].real
        return map_of(self._by_head(scores).softmax(-1).flatten(2), scores)

    def _exact(self, features: Mapping[str, Feature]) -> Tensor:
        source = features[self.source]
        scores = self._by_head(source.ints.detach()).numpy().astype(np.int64)
        found = torch.from_numpy(rows.softmax(scores, self.octaves(source.scale)))
        return self._scaled(map_of(found.flatten(2), source.ints), 2.0**-rows.PROBABILITY_BITS)

    def _by_head(self, scores: Tensor) -> Tensor:
        return cast("Tensor", tokens_of(scores).unflatten(2, (self.heads, -1)))

    @staticmethod
    def octaves(scale: float) -> int:
        """By how many halvings a score of one step less is less probable."""
        octaves = round(scale * math.log2(math.e) * (1 << rows.OCTAVE_BITS))
        return min(max(octaves, 1), rows.OCTAVES_MAX)

    def exported(self, scales: Scales, types: Types) -> list[mars.Layer]:
        del types
        octaves = self.octaves(scales[self.source])
        mult, shift = self._factor(2.0**-rows.PROBABILITY_BITS)
        fields: dict[str, Any] = {"octaves": octaves, "mult": mult, "shift": shift}
        return [mars.Softmax(**self._results(), heads=self.heads, **fields)]


class Table(TokenLayer):
    """A function of each value, as a table: GELU."""

    def __init__(self, step: Step, activation: Quantizer, source: FeatureType) -> None:
        super().__init__(step)
        self.activation = activation
        assert isinstance(step.module, nn.GELU)
        self._approximate = step.module.approximate
        self._low, self._high = source.low, source.high

    def _real(self, features: Mapping[str, Feature]) -> Tensor:
        return self._function(features[self.source].real)

    def _function(self, x: Tensor) -> Tensor:
        return functional.gelu(x, approximate=self._approximate)

    def _exact(self, features: Mapping[str, Feature]) -> Tensor:
        source = features[self.source]
        return self.table(source.scale)[source.ints.detach().long() - self._low]

    def table(self, scale: float) -> Tensor:
        """A result for each value of the source."""
        values = torch.arange(self._low, self._high + 1, dtype=torch.float64) * scale
        return round_half_up(self._function(values) / float(self.activation.step)).clamp(
            *self._limits()
        )

    def exported(self, scales: Scales, types: Types) -> list[mars.Layer]:
        del types
        table = self.table(scales[self.source]).numpy().astype(np.int64)
        return [mars.Lookup(**self._results(), table=table)]


class ConstantTokens(Layer):
    """Constant tokens before those of a map, in the map's steps; of the map those from `first` on.

    Members
    -------
    values : Parameter
        (n, C).
    """

    def __init__(self, step: Step, source: FeatureType) -> None:
        super().__init__(step)
        assert step.constant is not None
        self.activation = None
        self.values = nn.Parameter(step.constant.clone().float())
        self.first = step.first
        self._limits_of_source = source.low, source.high

    def forward(self, features: Mapping[str, Feature]) -> Feature:
        source = features[self.source]
        values = self.values / source.scale
        if not self.smooth:
            exact = self._discretised(values.detach())
            values = replaced(values.clamp(*self._limits_of_source), exact)
        tokens = tokens_of(source.ints)[:, self.first :]
        return Feature(
            map_of(torch.cat([values.expand(len(tokens), -1, -1), tokens], 1)), source.scale
        )

    def _discretised(self, values: Tensor) -> Tensor:
        return round_half_up(values).clamp(*self._limits_of_source)

    def exported(self, scales: Scales, types: Types) -> list[mars.Layer]:
        """The layer of the file."""
        del types
        with torch.no_grad():
            ints = self._discretised(self.values / scales[self.source]).T.numpy().astype(np.int64)
        return [mars.Tokens(name=self.name, input=self.source, values=ints, first=self.first)]


class Positions(TokenLayer):
    """A map of constants that is added.

    On the accelerator the map is constant tokens before a layer of weights 0.

    Members
    -------
    values : Parameter
        (T, C).
    """

    def __init__(self, step: Step, constants: Quantizer, activation: Quantizer) -> None:
        super().__init__(step)
        assert step.constant is not None
        self.values = nn.Parameter(step.constant.clone().float())
        self.constants, self.activation = constants, activation

    def forward(self, features: Mapping[str, Feature]) -> Feature:
        if not self.constants.is_calibrated:
            if not self.training:
                self.check_calibrated()
            self.constants.start(self.values)
        return super().forward(features)

    def _real(self, features: Mapping[str, Feature]) -> Tensor:
        values = self.values
        if not self.smooth:
            values = self.constants(values) * float(self.constants.step)
        source = features[self.source].real
        return source + map_of(values[None], source)

    def _exact(self, features: Mapping[str, Feature]) -> Tensor:
        source = features[self.source]
        mult, shift, own = self._multipliers(source.scale)
        added = map_of(self.constants.discretised(self.values.detach())[None], source.ints)
        power = torch.tensor(2.0 ** int(shift[0]), dtype=torch.float64)
        total = source.ints.detach().double()
        return requantise(total, torch.tensor(int(mult[0])), power, self._limits(), added, own)

    def _multipliers(self, source_scale: float) -> tuple[Ints, Ints, int]:
        out = float(self.activation.step)
        factor: Floats = np.array([source_scale / out])
        return self._hardware(factor, float(self.constants.step) / out)

    def exported(self, scales: Scales, types: Types) -> list[mars.Layer]:
        with torch.no_grad():
            values = self.constants.discretised(self.values).T.numpy().astype(np.int64)
        kind: dict[str, Any] = {"out_bits": self.constants.bits, "out_signed": True}
        names = [f"{self.name}.{part}" for part in ("pixel", "last", "constant")]
        channels = types[self.source].shape[0]
        ones = np.ones(channels, np.int64)
        depthwise: dict[str, Any] = {"weight_bits": 2, "groups": channels}
        column = (channels, 1, 1, 1)
        mult, shift, own = self._multipliers(scales[self.source])
        return [
            mars.AvgPool(name=names[0], input=self.source, mult=0, shift=1, **kind),
            mars.Conv(
                name=names[1],
                input=names[0],
                weight=np.zeros(column, np.int64),
                bias=values[:, -1],
                mult=2 * ones,
                shift=ones,
                **depthwise,
                **kind,
            ),
            mars.Tokens(name=names[2], input=names[1], values=values[:, :-1]),
            mars.Conv(
                **self._results(),
                weight=np.ones(column, np.int64),
                bias=0 * ones,
                mult=np.full(channels, mult[0]),
                shift=np.full(channels, shift[0]),
                skip=names[2],
                skip_mult=own,
                **depthwise,
            ),
        ]
