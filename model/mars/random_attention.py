"""Random attention blocks, for comparing the reference, the golden machine and the RTL.

Tokens are the pixels of a row, a column or a grid; heads, dimensions of a head, types and scales
are anything that is legal. What surrounds attention is there or not: an embedding, constant
tokens, normalisation, residuals, a second half of linear layers with a table between them, a layer
for which constant tokens are left out, a last dense layer.
"""

from dataclasses import replace

import numpy as np

from model.mars.network import (
    INPUT,
    MULT_MAX,
    NORMAL_LARGEST,
    SHIFT_MAX,
    WIDE_MULT_MAX,
    Conv,
    FeatureType,
    Layer,
    LayerNorm,
    MatMul,
    QuantizedNetwork,
    Softmax,
    Tokens,
    output_type,
)
from model.mars.random_layers import (
    Limits,
    chance,
    out_type,
    random_bias,
    random_offset,
    random_scale,
    random_weight,
)
from model.mars.random_network import Builder
from model.mars.reference import convolve, multiply, run_layer
from model.mars.rows import EPSILON_MAX, NORMAL_BITS, OCTAVE_BITS, OCTAVES_MAX, PROBABILITY_BITS

MAX_SIDE = 255
MAX_HEADS = 8


def random_attention_network(
    seed: int, *, max_tokens: int = 256, max_channels: int = 96, wide: bool = False
) -> QuantizedNetwork:
    """A random network with one attention in it; equal arguments give equal networks.

    Parameters
    ----------
    seed : int
        Not negative; the network's name has it.
    max_tokens, max_channels : int
        Most pixels, at most 256, and channels of a map of features.
    wide : bool
        Multipliers have up to 31 bits, and there are second shifts.
    """
    rng = np.random.default_rng((seed, 16))
    limits = Limits(max_channels, MAX_SIDE, 512, wide)
    bits, signed = out_type(rng)
    n_channels = int(rng.integers(1, max_channels + 1))
    kind = FeatureType((n_channels, *_grid(rng, max_tokens)), bits, signed)
    builder = _Builder(rng, limits, kind)
    builder.block()
    return builder.network(f"random_attention_{seed}")


def _grid(rng: np.random.Generator, max_tokens: int) -> tuple[int, int]:
    """Rows and columns of at most so many tokens."""
    n = int(rng.integers(1, max_tokens + 1)) if chance(rng, 0.8) else max_tokens
    style = rng.choice(("column", "row", "grid"), p=(0.4, 0.1, 0.5))
    if style == "grid" or n > MAX_SIDE:
        rows = int(rng.integers(max(1, -(-n // MAX_SIDE)), int(n**0.5) + 2))
        return rows, max(1, n // rows)
    return (n, 1) if style == "column" else (1, n)


class _Builder(Builder):
    def block(self) -> None:
        """Attention over the tokens of the input, and what may be around it."""
        rng = self._rng
        source = INPUT
        if chance(rng, 0.5):
            source = self._linear("embed", INPUT, int(rng.integers(1, self._limits.channels + 1)))
        if chance(rng, 0.3):
            source = self._tokens("tokens", source)
            if chance(rng, 0.5):
                source = self._tokens("prompts", source, self._types[source].shape[1] - 1)
        attended = self._attention(self._maybe_norm("norm1", source))
        if chance(rng, 0.15):
            return
        n_channels = self._types[source].shape[0]
        result = self._linear("project", attended, n_channels, skip=source)
        if chance(rng, 0.5):
            hidden = self._linear("grow", self._maybe_norm("norm2", result), 2 * n_channels)
            if chance(rng, 0.8):
                layer = self._lookup("gelu", hidden)
                hidden = self._append(layer)
            result = self._linear("shrink", hidden, n_channels, skip=result)
        n_constants = self._n_constants(source)
        if n_constants and chance(rng, 0.7):
            result = self._behind(result, n_constants)
        if chance(rng, 0.2) and self._fits("dense", self._types[result]):
            self._append(self._dense("last", result, raw=chance(rng, 0.7)))

    def _attention(self, source: str) -> str:
        rng = self._rng
        heads = int(rng.integers(1, MAX_HEADS + 1))
        most = max(1, self._limits.channels // heads)
        d, d_value = (int(rng.integers(1, most + 1)) for _ in range(2))
        query = self._linear("query", source, heads * d)
        key = self._linear("key", source, heads * d, kind=self._signed())
        scores = self._matmul("scores", query, key, heads, transposed=True)
        if chance(rng, 0.85):
            scores = self._softmax("softmax", scores, heads)
        value = self._linear("value", source, heads * d_value, kind=self._signed())
        return self._matmul("attend", scores, value, heads, transposed=False)

    def _any_type(self) -> tuple[int, bool]:
        """Mostly one of 8 bit: tokens of few values are all alike."""
        return (8, chance(self._rng, 0.7)) if chance(self._rng, 0.75) else out_type(self._rng)

    def _signed(self) -> tuple[int, bool]:
        """A signed type."""
        return int(self._rng.choice((8, 8, 8, 4, int(self._rng.integers(2, 9))))), True

    def _append(self, layer: Layer) -> str:
        self._layers.append(layer)
        self._types[layer.name] = output_type(layer, self._types)
        self._values[layer.name] = run_layer(layer, self._types, self._values)
        return layer.name

    def _linear(
        self,
        name: str,
        source: str,
        n_kernels: int,
        *,
        kind: tuple[int, bool] | None = None,
        skip: str | None = None,
    ) -> str:
        """A 1x1 convolution, with a residual if there is one and by chance."""
        rng, read = self._rng, self._types[source]
        weight_bits = int(rng.choice((4, 8, int(rng.integers(2, 9)))))
        weight = random_weight(rng, (n_kernels, read.shape[0], 1), weight_bits)[..., np.newaxis]
        bits, signed = self._any_type() if kind is None else kind
        acc = convolve(self._values[source], weight)
        fields = self._post(acc, weight, read, FeatureType((1, 1, 1), bits, signed))
        if skip is not None and chance(rng, 0.8):
            fields |= self._post_of_skip(fields, self._types[skip])
            fields["skip"] = skip
        return self._append(
            Conv(name=name, input=source, weight=weight, weight_bits=weight_bits, **fields)
        )

    def _tokens(self, name: str, source: str, most_left_out: int = 0) -> str:
        """A few constant pixels before those of a map, if one column has room for all.

        Of the map up to `most_left_out` pixels are left out.
        """
        kind = self._types[source]
        first = int(self._rng.integers(0, min(most_left_out, 8) + 1))
        n = int(self._rng.integers(first == 0, 6))
        if n + kind.shape[1] * kind.shape[2] - first > MAX_SIDE:
            return source
        values = self._rng.integers(kind.low, kind.high + 1, (kind.shape[0], n))
        return self._append(Tokens(name=name, input=source, values=values, first=first))

    def _n_constants(self, name: str) -> int:
        """Constant tokens with which a map begins."""
        tokens = (layer for layer in self._layers if isinstance(layer, Tokens))
        return sum(layer.values.shape[1] for layer in tokens if layer.name == name)

    def _behind(self, source: str, n_constants: int) -> str:
        """A layer that reads a map without some or all of its constant tokens."""
        rng, kind = self._rng, self._types[source]
        first = n_constants if chance(rng, 0.7) else int(rng.integers(1, n_constants + 1))
        first = min(first, kind.shape[1] * kind.shape[2] - 1)
        nothing = np.zeros((kind.shape[0], 0), np.int64)
        rest = Tokens(name="rest", input=source, values=nothing, first=first)
        return self._linear("behind", self._append(rest), int(rng.integers(1, kind.shape[0] + 1)))

    def _maybe_norm(self, name: str, source: str) -> str:
        """The normalised channels of a map, or the map."""
        rng, read = self._rng, self._types[source]
        if chance(rng, 0.3):
            return source
        bits, signed = self._any_type()
        kind = FeatureType((1, 1, 1), bits, signed)
        n = read.shape[0]
        normal = rng.normal(0, 1 << NORMAL_BITS, (n, 64)).astype(np.int64)
        bias = random_bias(rng, normal, np.full(n, NORMAL_LARGEST))
        mult, shift, _ = random_scale(rng, kind.high, normal + bias[:, np.newaxis], wide=False)
        epsilon = int(rng.choice((0, 1, n * n, int(rng.integers(0, EPSILON_MAX + 1)))))
        return self._append(
            LayerNorm(
                name=name,
                input=source,
                epsilon=epsilon,
                bias=bias,
                mult=mult,
                shift=shift,
                offset=random_offset(rng, kind),
                out_bits=bits,
                out_signed=signed,
            )
        )

    def _matmul(self, name: str, source: str, operand: str, heads: int, *, transposed: bool) -> str:
        rng = self._rng
        bits, signed = self._any_type()
        kind = FeatureType((1, 1, 1), bits, signed)
        bare = MatMul(
            name=name,
            input=source,
            operand=operand,
            transposed=transposed,
            heads=heads,
            mult=0,
            shift=1,
            offset=random_offset(rng, kind),
            out_bits=bits,
            out_signed=signed,
        )
        acc = multiply(bare, self._values[source], self._values[operand]).reshape(1, -1)
        wide = self._limits.wide and chance(rng, 0.8)
        scales = random_scale(rng, kind.high, acc, wide=wide)
        mult, shift, post_shift = (int(numbers[0]) for numbers in scales)
        return self._append(replace(bare, mult=mult, shift=shift, post_shift=post_shift))

    def _softmax(self, name: str, source: str, heads: int) -> str:
        rng = self._rng
        bits, signed = (8, False) if chance(rng, 0.85) else out_type(rng)
        spread = float(self._values[source].std()) + 1
        octaves = round((1 << OCTAVE_BITS) * rng.uniform(0.5, 5) / spread)
        if chance(rng, 0.1):
            octaves = int(rng.choice((1, OCTAVES_MAX)))
        mult_max = WIDE_MULT_MAX if self._limits.wide and chance(rng, 0.5) else MULT_MAX
        mult = int(rng.choice((1, int(rng.integers(1, mult_max + 1)))))
        places = PROBABILITY_BITS - bits + mult.bit_length() - int(rng.integers(0, 2))
        return self._append(
            Softmax(
                name=name,
                input=source,
                heads=heads,
                octaves=int(np.clip(octaves, 1, OCTAVES_MAX)),
                mult=mult,
                shift=min(places, SHIFT_MAX),
                post_shift=max(places - SHIFT_MAX, 0),
                offset=random_offset(rng, FeatureType((1, 1, 1), bits, signed)),
                out_bits=bits,
                out_signed=signed,
            )
        )
