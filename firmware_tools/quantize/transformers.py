"""Transformers as torch has them, taken apart into modules of which each is a layer of the chip.

Tokens are (N, T, C). `nn.MultiheadAttention`, `nn.TransformerEncoderLayer` and
`nn.TransformerEncoder` cannot be traced; in a copy of the network others stand in their places that
compute the same with the same parameters.
"""

import copy
from typing import Any

from torch import Tensor, nn

from firmware_tools.quantize.errors import UnsupportedError


class TokenModule(nn.Module):
    """What is a layer of the chip as it is."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def _apart(self, tokens: Tensor) -> Tensor:
        """(N, T, C) as (N, heads, T, C / heads)."""
        n_images, n_tokens, _ = tokens.shape
        return tokens.view(n_images, n_tokens, self.heads, -1).transpose(1, 2)

    @staticmethod
    def _together(parts: Tensor) -> Tensor:
        """The way back."""
        return parts.transpose(1, 2).flatten(2)


class Scores(TokenModule):
    """Products of queries and keys over the root of their number, (N, T, heads * T)."""

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        factor = (query.shape[-1] // self.heads) ** -0.5
        return self._together(self._apart(query) @ self._apart(key).transpose(2, 3) * factor)


class Probabilities(TokenModule):
    """Softmax of each head's scores."""

    def forward(self, scores: Tensor) -> Tensor:
        return self._together(self._apart(scores).softmax(-1))


class Attended(TokenModule):
    """Values weighted by probabilities, (N, T, C)."""

    def forward(self, probabilities: Tensor, value: Tensor) -> Tensor:
        return self._together(self._apart(probabilities) @ self._apart(value))


class SelfAttention(nn.Module):
    """`nn.MultiheadAttention` of tokens with themselves.

    Parameters
    ----------
    name : str
        For messages.
    attention : nn.MultiheadAttention
        Its parameters are copied.

    Raises
    ------
    UnsupportedError
        The chip has nothing of the kind.
    """

    def __init__(self, name: str, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self._name = name
        width, n_heads = attention.embed_dim, attention.num_heads
        for found, what, wanted in (
            (not attention.batch_first, "batch_first=False", "batch_first=True"),
            (attention.kdim != width or attention.vdim != width, "kdim or vdim", "none of them"),
            (attention.bias_k is not None, "add_bias_kv=True", "add_bias_kv=False"),
            (attention.add_zero_attn, "add_zero_attn=True", "add_zero_attn=False"),
        ):
            if found:
                raise _refusal(name, what, wanted)
        weights, biases = _thirds(attention.in_proj_weight), _thirds(attention.in_proj_bias)
        self.query, self.key, self.value = (
            _linear(weight, bias) for weight, bias in zip(weights, biases, strict=True)
        )
        self.scores, self.softmax = Scores(n_heads), Probabilities(n_heads)
        self.attended = Attended(n_heads)
        self.project = _linear(attention.out_proj.weight, attention.out_proj.bias)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Any, None]:
        del need_weights, average_attn_weights
        if not (query is key and key is value):
            raise _refusal(self._name, "cross attention", "query, key and value that are one")
        _refuse_masks(self._name, key_padding_mask, attn_mask, is_causal)
        probabilities = self.softmax(self.scores(self.query(query), self.key(query)))
        return self.project(self.attended(probabilities, self.value(query))), None


class Block(nn.Module):
    """`nn.TransformerEncoderLayer` with its normalisations first; parameters as `SelfAttention`."""

    def __init__(self, name: str, layer: nn.TransformerEncoderLayer) -> None:
        super().__init__()
        self._name = name
        if not layer.norm_first:
            raise _refusal(name, "norm_first=False", "norm_first=True")
        self.self_attn = SelfAttention(f"{name}.self_attn", layer.self_attn)
        self.norm1, self.norm2 = layer.norm1, layer.norm2
        self.linear1, self.linear2 = layer.linear1, layer.linear2
        self.activation: Any = layer.activation

    def forward(
        self,
        src: Tensor,
        src_mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool = False,
    ) -> Tensor:
        _refuse_masks(self._name, src_mask, src_key_padding_mask, is_causal)
        normed = self.norm1(src)
        x = src + self.self_attn(normed, normed, normed)[0]
        return x + self.linear2(self.activation(self.linear1(self.norm2(x))))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """`nn.TransformerEncoder`; parameters as `SelfAttention`."""

    def __init__(self, name: str, encoder: nn.TransformerEncoder) -> None:
        super().__init__()
        self._name = name
        self.layers = nn.ModuleList(
            _replacement(f"{name}.layers.{k}", layer) for k, layer in enumerate(encoder.layers)
        )
        self.norm = encoder.norm

    def forward(
        self,
        src: Tensor,
        mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        _refuse_masks(self._name, mask, src_key_padding_mask, is_causal)
        x = src
        for layer in self.layers:
            x = layer(x)
        return x if self.norm is None else self.norm(x)


_REPLACEMENTS: dict[type[nn.Module], Any] = {
    nn.MultiheadAttention: SelfAttention,
    nn.TransformerEncoderLayer: Block,
    nn.TransformerEncoder: Encoder,
}


def unrolled(model: nn.Module) -> nn.Module:
    """The network with traceable modules in place of torch's transformers; it is left as it is.

    Raises
    ------
    UnsupportedError
        A transformer has what the chip has not.
    """
    if not any(type(module) in _REPLACEMENTS for module in model.modules()):
        return model
    own = copy.deepcopy(model)
    if type(own) in _REPLACEMENTS:
        return _replacement(type(own).__name__, own)
    _replace_children("", own)
    return own


def _replace_children(path: str, module: nn.Module) -> None:
    for name, child in module.named_children():
        where = f"{path}{name}"
        if type(child) in _REPLACEMENTS:
            setattr(module, name, _replacement(where, child))
        else:
            _replace_children(f"{where}.", child)


def _replacement(name: str, module: nn.Module) -> nn.Module:
    kind = _REPLACEMENTS.get(type(module))
    if kind is None:
        raise _refusal(name, type(module).__name__, "TransformerEncoderLayer")
    own: nn.Module = kind(name, module)
    return own.train(module.training)


def _linear(weight: Tensor | None, bias: Tensor | None) -> nn.Linear:
    assert weight is not None
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().clone())
    return linear


def _thirds(values: Tensor | None) -> tuple[Tensor | None, ...]:
    """Those of queries, keys and values."""
    return (None,) * 3 if values is None else values.chunk(3)


def _refusal(name: str, what: str, wanted: str) -> UnsupportedError:
    return UnsupportedError(f"{name}: {what} is not supported; the accelerator takes {wanted}")


def _refuse_masks(name: str, *masks: Any) -> None:
    if any(one is not None and one is not False for one in masks):
        raise _refusal(name, "a mask", "attention of all tokens")
