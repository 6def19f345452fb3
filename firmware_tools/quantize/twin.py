"""`quantize`, `calibrate` and `export`: from a user's module to the accelerator's network."""

import copy
from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from firmware_tools.quantize import quantizers
from firmware_tools.quantize.errors import CalibrationError, QuantizationError
from firmware_tools.quantize.layers import Average, Feature, Ints, Layer, MaxPool, Product
from firmware_tools.quantize.quantizers import Quantizer, StraightThrough
from firmware_tools.quantize.token_layers import (
    ConstantTokens,
    MapProduct,
    Normalisation,
    Positions,
    SoftMax,
    Table,
    TokenLayer,
)
from firmware_tools.quantize.tracing import Step, trace
from model.mars import network as mars
from model.mars.network import INPUT, FeatureType, QuantizedNetwork


class Twin(nn.Module):
    """The quantised twin of a network: a module that is trained like any other.

    What it computes are the accelerator's integers, times the scale of the last layer; see
    `firmware_tools.quantize.layers`.

    Parameters
    ----------
    inputs : Quantizer
        Of the images.
    layers : list of Layer
    flat : bool
        Whether the result is (N, C) rather than (N, C, H, W).

    Members
    -------
    input_shape : (3,) int
        Channels, rows and columns of an image; 0 until one has come.
    """

    input_shape: Tensor

    def __init__(self, inputs: Quantizer, layers: list[Layer], *, flat: bool) -> None:
        super().__init__()
        self.inputs = inputs
        self.layers = nn.ModuleList(layers)
        self._flat = flat
        self._smooth = False
        self.register_buffer("input_shape", torch.zeros(3, dtype=torch.int64))

    def forward(self, images: Tensor) -> Tensor:
        """Real results, the last layer's integers times its scale."""
        last = list(self.features(images).values())[-1]
        return last.real.flatten(1) if self._flat else last.real

    def features(self, images: Tensor) -> dict[str, Feature]:
        """What every layer computes, by name, in order, after "input"."""
        self._take(images)
        features = {INPUT: self._input(images)}
        for layer in self.steps():
            features[layer.name] = layer(features)
        return features

    def _take(self, images: Tensor) -> None:
        """Refuse what are no images; in training, start from the first ones."""
        _check_tensor(images)
        self._check_shape(images)
        self._meet(images)

    def _input(self, images: Tensor) -> Feature:
        if self._smooth:
            return Feature(images, 1.0)
        return Feature(self.inputs(images), float(self.inputs.step))

    def smooth(self, on: bool = True) -> None:
        """Compute with real numbers rather than integers, as the float network does, or no longer.

        For the group lasso and for pruning, which go more smoothly before anything is rounded;
        the scales are to be calibrated again afterwards.
        """
        self._smooth = on
        for layer in self.steps():
            layer.smooth = on

    def integers(self, images: Tensor) -> dict[str, Ints]:
        """The integers of every layer, by name, "input" first."""
        with torch.no_grad():
            features = self.features(images)
        return {name: feature.ints.numpy().astype(np.int64) for name, feature in features.items()}

    def likeness(self, name: str, feature: Feature) -> Tensor:
        """What is to resemble the float network's result of a layer, (N, C, H, W)."""
        own = next((one for one in self.steps() if one.name == name), None)
        return own.likeness(feature) if isinstance(own, Normalisation) else feature.real

    def image_ints(self, images: Tensor) -> Ints:
        """Images as the accelerator takes them."""
        _check_tensor(images)
        self._check_shape(images)
        _check_finite(images)
        self.check_calibrated()
        return cast("Ints", self.inputs.discretised(images).numpy().astype(np.int64))

    def steps(self) -> list[Layer]:
        """The layers in order."""
        return [cast("Layer", layer) for layer in self.layers]

    def products(self) -> list[Product]:
        """The layers that have weights."""
        return [layer for layer in self.steps() if isinstance(layer, Product)]

    def check_calibrated(self) -> None:
        """Refuse a twin that has seen no data."""
        if not self.inputs.is_calibrated:
            raise CalibrationError(
                "the twin must be calibrated first: call calibrate(twin, images), or train it"
            )
        for layer in self.steps():
            layer.check_calibrated()

    def _meet(self, images: Tensor) -> None:
        if not self.training:
            self.check_calibrated()
            return
        _check_finite(images)
        if not self.inputs.is_calibrated:
            if not self.inputs.signed and images.min() < 0:
                raise QuantizationError(
                    f"images must not be negative, not {float(images.min()):g}, "
                    "unless quantize was given input_signed=True"
                )
            self.inputs.start(images)
        self.input_shape.copy_(torch.tensor(images.shape[-3:]))

    def _check_shape(self, images: Tensor) -> None:
        if images.dim() != 4 or not len(images):
            raise QuantizationError(f"images must be (N, C, H, W), not {tuple(images.shape)}")


def _check_tensor(images: object) -> None:
    if not isinstance(images, Tensor):
        raise QuantizationError(f"images must be a tensor, not {type(images).__name__}")


def _check_finite(images: Tensor) -> None:
    if not torch.isfinite(images).all():
        raise QuantizationError("images must be finite numbers")


def quantize(
    model: nn.Module,
    weight_bits: int,
    act_bits: int,
    quantizer: str = "lg-lsq",
    *,
    input_bits: int | None = None,
    input_signed: bool = False,
    average_bits: int | None = None,
    per_channel: bool = True,
    **options: bool,
) -> Twin:
    """The quantised twin of a trained float network, which is left as it is.

    Parameters
    ----------
    model : nn.Module
        Conv2d (3x3, 1x1, patches), BatchNorm2d, ReLU, Linear, MaxPool2d(2), AdaptiveAvgPool2d(1),
        Flatten and additions; in a chain or with residuals, traceable by torch.fx. Of tokens
        (N, T, C) LayerNorm, MultiheadAttention, TransformerEncoderLayer, GELU, constant tokens and
        positions.
    weight_bits, act_bits : int
        2..8.
    quantizer : str
        lg-lsq, lsq, ste, pact or ewgs.
    input_bits, average_bits : int or None
        Bits of the images and of global averages, 2..8; None is `act_bits`.
    input_signed : bool
        Whether images have negative values.
    per_channel : bool
        A scale of the weights for each output channel, but for accumulators as results.
    **options
        ssg, asr, mde, three_valued: see `LGLSQ`.

    Raises
    ------
    QuantizationError
        A width is out of range, a weight is not finite, or the module has an unsupported part.
    """
    for what, bits in (
        ("weight_bits", weight_bits),
        ("act_bits", act_bits),
        ("input_bits", act_bits if input_bits is None else input_bits),
        ("average_bits", act_bits if average_bits is None else average_bits),
    ):
        quantizers.check_bits(what, bits)
    unknown = options.keys() - quantizers.OPTIONS
    if unknown:
        known = ", ".join(sorted(quantizers.OPTIONS))
        raise QuantizationError(f"options must be among {known}, not {', '.join(sorted(unknown))}")
    steps, flat = trace(copy.deepcopy(model))
    inputs = StraightThrough(act_bits if input_bits is None else input_bits, signed=input_signed)
    builder = _Builder(weight_bits, act_bits, average_bits or act_bits, quantizer, options)
    builder.per_channel = per_channel
    builder.kinds[INPUT] = (inputs.bits, inputs.signed)
    return Twin(inputs, [builder.layer(step, step is steps[-1]) for step in steps], flat=flat)


class _Builder:
    def __init__(
        self,
        weight_bits: int,
        act_bits: int,
        average_bits: int,
        name: str,
        options: dict[str, bool],
    ) -> None:
        self._weight_bits = weight_bits
        self._act_bits = act_bits
        self._average_bits = average_bits
        self._name = name
        self._options: dict[str, Any] = dict(options)
        self.per_channel = True
        self.kinds: dict[str, tuple[int, bool]] = {}
        """Bits and sign of what has been built."""

    def layer(self, step: Step, is_last: bool) -> Layer:
        bits, signed = self.kinds[step.source]
        if step.op == "maxpool2":
            self.kinds[step.name] = bits, signed
            return MaxPool(step)
        if step.op == "avgpool":
            self.kinds[step.name] = self._average_bits, signed
            return Average(step, self._activation(self._average_bits, signed=signed))
        if step.op not in {"conv", "dense"}:
            return self._token_layer(step, FeatureType((1, 1, 1), bits, signed))
        is_raw = is_last and not step.relu and step.skip is None
        assert step.product is not None
        weights = quantizers.make(
            self._name,
            self._weight_bits,
            signed=True,
            n_channels=len(step.product.weight) if self.per_channel and not is_raw else None,
            is_weight=True,
            **self._options,
        )
        self.kinds[step.name] = self._act_bits, not step.relu
        activation = None if is_raw else self._activation(self._act_bits, signed=not step.relu)
        return Product(step, weights, activation, 1 << (bits - signed))

    def _token_layer(self, step: Step, source: FeatureType) -> Layer:
        """A layer that transformers have."""
        if step.op == "tokens":
            self.kinds[step.name] = source.bits, source.signed
            return ConstantTokens(step, source)
        self.kinds[step.name] = self._act_bits, step.op != "softmax"
        if step.op == "softmax":
            return SoftMax(step, self._act_bits)
        activation = self._activation(self._act_bits, signed=True)
        if step.op == "layernorm":
            return Normalisation(step, activation)
        if step.op == "gelu":
            return Table(step, activation, source)
        if step.op == "positions":
            constants = self._activation(quantizers.MAX_BITS, signed=True)
            return Positions(step, constants, activation)
        assert step.skip is not None
        bits, signed = self.kinds[step.skip]
        return MapProduct(step, activation, FeatureType((1, 1, 1), bits, signed))

    def _activation(self, bits: int, *, signed: bool) -> Quantizer:
        return quantizers.make(self._name, bits, signed=signed, **self._options)


def calibrate(twin: Twin, images: Tensor | Iterable[Tensor], *, again: bool = False) -> None:
    """Start the scales from images, one batch or several.

    Parameters
    ----------
    twin : Twin
    images : (N, C, H, W) float, or some of them
    again : bool
        All scales but that of the images, rather than those that have not been started: weights
        that were pruned have left others behind.

    Raises
    ------
    QuantizationError
        Images or weights are not finite numbers, or images are not as above.
    """
    for layer in twin.steps() if again else ():
        for quantizer in layer.children():
            if isinstance(quantizer, Quantizer):
                quantizer.calibrated.fill_(False)
    for product in twin.products():
        product.check_finite()
    batches = [images] if isinstance(images, Tensor) else images
    before = twin.training
    twin.train()
    with torch.no_grad():
        for batch in batches:
            twin(batch)
    twin.train(before)


def export(twin: Twin, name: str = "network") -> QuantizedNetwork:
    """The network as the accelerator takes it.

    Raises
    ------
    CalibrationError
        The twin has seen no data.
    QuantizationError
        A scale or a weight is not what the hardware can hold, or the twin is smooth.
    """
    twin.check_calibrated()
    for layer in twin.steps():
        if layer.smooth:
            raise QuantizationError(
                "the twin must compute with integers: call twin.smooth(False), then "
                "calibrate(twin, images, again=True)"
            )
        if isinstance(layer, Product):
            layer.check_finite()
    shape = tuple(int(size) for size in twin.input_shape)
    kind = FeatureType((shape[0], shape[1], shape[2]), twin.inputs.bits, twin.inputs.signed)
    scales = {INPUT: float(twin.inputs.step)}
    types = {INPUT: kind}
    layers: list[mars.Layer] = []
    for layer in twin.steps():
        exported, scale = _export_layer(layer, scales, types)
        for one in exported:
            types[one.name] = mars.output_type(one, types)
        layers += exported
        scales[layer.name] = scale
    return QuantizedNetwork(kind, tuple(layers), name, scales)


def _export_layer(
    layer: Layer, scales: dict[str, float], types: dict[str, FeatureType]
) -> tuple[list[mars.Layer], float]:
    """The layers of the file, and the scale of the results."""
    scale, source = scales[layer.source], types[layer.source]
    match layer:
        case Product():
            return _export_product(layer, scales, source)
        case TokenLayer():
            return layer.exported(scales, types), float(layer.activation.step)
        case ConstantTokens():
            return layer.exported(scales, types), scale
        case Average():
            assert layer.activation is not None
            mult, shift = layer.multiplier(scale, source.shape[1] * source.shape[2])
            average = mars.AvgPool(
                name=layer.name,
                input=layer.source,
                mult=mult,
                shift=shift,
                out_bits=layer.activation.bits,
                out_signed=layer.activation.signed,
            )
            return [average], float(layer.activation.step)
    return [mars.MaxPool(name=layer.name, input=layer.source)], scale


def _export_product(
    layer: Product, scales: dict[str, float], source: FeatureType
) -> tuple[list[mars.Layer], float]:
    scale = scales[layer.source]
    fields: dict[str, Any] = {
        "name": layer.name,
        "input": layer.source,
        "weight": layer.weight_ints(),
        "bias": layer.bias_ints(scale),
        "weight_bits": layer.weights.bits,
        "out_bits": layer.out_bits,
        "out_signed": layer.activation is None or layer.activation.signed,
    }
    out_scale = float(layer.units(scale)[0])
    if layer.activation is not None:
        out_scale = float(layer.activation.step)
        skip_scale = scales[layer.skip] if layer.skip is not None else None
        fields["mult"], fields["shift"], skip_mult = layer.multipliers(scale, skip_scale)
        if layer.skip is not None:
            fields |= {"skip": layer.skip, "skip_mult": skip_mult}
    if layer.is_conv:
        sides = (layer.padding,) * 4
        return [mars.Conv(**fields, stride=(layer.stride,) * 2, padding=sides)], out_scale
    if layer.token is not None:
        n_channels, rows, columns = source.shape
        every = np.zeros((len(layer.weight), n_channels, rows * columns), np.int64)
        every[:, :, layer.token] = fields["weight"]
        fields["weight"] = every.reshape(len(every), -1)
    return [mars.Dense(**fields)], out_scale
