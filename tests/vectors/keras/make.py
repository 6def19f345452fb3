"""Writes the models of this folder, as Keras and TensorFlow Lite's converter export them today.

It needs what the project does not: pip install tensorflow ai-edge-litert. NAME.npz has inputs as
the model takes them and what its reference kernels (BUILTIN_REF) make of them, before a softmax.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType

L = tf.keras.layers
ops = tf.keras.ops
HERE = Path(__file__).parent
N_INPUTS = 8
GOOD: dict[str, tuple[Callable[[Any], Any], tuple[int, ...], str]] = {}
BAD: dict[str, tuple[Callable[[Any], Any], tuple[int, ...], str]] = {}


def good(*shape: int, io: str = "int8") -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        GOOD[function.__name__] = (function, shape, io)
        return function

    return register


def bad(*shape: int, kind: str = "int8") -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        BAD[f"bad_{function.__name__}"] = (function, shape, kind)
        return function

    return register


def normed(x: Any, activation: str | None = "relu") -> Any:
    x = L.BatchNormalization()(x)
    return L.Activation(activation)(x) if activation else x


@good(24, 24, 3)
def mobile(x: Any) -> Any:
    """MobileNetV2: expansion, ReLU6, residual, mean, softmax."""
    x = normed(L.Conv2D(8, 3, 2, "same", use_bias=False)(x), "relu6")
    y = normed(L.Conv2D(32, 1, use_bias=False)(x), "relu6")
    y = normed(L.DepthwiseConv2D(3, 1, "same", use_bias=False)(y), "relu6")
    x = L.Add()([x, normed(L.Conv2D(8, 1, use_bias=False)(y), None)])
    return L.Dense(10, activation="softmax")(L.GlobalAveragePooling2D()(x))


@good(24, 24, 3)
def hard_swish(x: Any) -> Any:
    """MobileNetV3: hard-swish, 5x5 depthwise, swish as x * sigmoid(x)."""

    def swish(x: Any) -> Any:
        return x * (L.ReLU(6.0)(x + 3.0) * (1.0 / 6.0))

    x = swish(normed(L.Conv2D(8, 3, 2, "same", use_bias=False)(x), None))
    x = swish(normed(L.DepthwiseConv2D(5, 1, "same", use_bias=False)(x), None))
    x = L.Conv2D(6, 1, activation="swish")(x)
    x = swish(L.Conv2D(12, 1)(L.GlobalAveragePooling2D(keepdims=True)(x)))
    return L.Flatten()(L.Conv2D(5, 1)(x))


@good(17, 17, 3, io="float32")
def residual(x: Any) -> Any:
    """ResNet's stem: 7x7, padded pool; a short cut that pads channels."""
    x = normed(L.Conv2D(6, 7, 2, use_bias=False)(L.ZeroPadding2D(3)(x)))
    x = L.MaxPooling2D(3, 2)(L.ZeroPadding2D(1)(x))
    y = normed(L.Conv2D(8, 3, 2, "same")(x), None)
    short = ops.pad(x[:, ::2, ::2, :], ((0, 0), (0, 0), (0, 0), (1, 1)))
    return L.Dense(4)(L.GlobalAveragePooling2D()(L.ReLU()(L.Add()([y, short]))))


@good(16, 16, 4)
def before(x: Any) -> Any:
    """Normalisation that no convolution takes: products and sums by channel."""
    x = L.Conv2D(6, 3, padding="same")(x)
    y = L.Conv2D(6, 3, padding="same")(normed(x))
    x = normed(L.Subtract()([x, y]))
    return L.Dense(4)(L.GlobalAveragePooling2D()(x * 0.3 + 1.5))


@good(64, 3, io="uint8")
def sequence(x: Any) -> Any:
    """One dimension: causal, dilated, pooled."""
    x = L.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="relu")(x)
    x = normed(L.Conv1D(6, 5, 2, "same")(x))
    x = L.MaxPooling1D(2)(x)
    x = L.Dense(5, activation="relu")(x)
    return L.Dense(4)(
        L.GlobalAveragePooling1D()(L.Conv1D(6, 3, padding="same", dilation_rate=4)(x))
    )


@good(49, 10)
def speech(x: Any) -> Any:
    """(time, frequencies) as a map; average by windows; softmax of 1x1 maps."""
    x = L.ZeroPadding2D((1, 1))(L.Reshape((49, 10, 1))(x))
    x = L.Conv2D(6, (10, 4), 2, activation="relu")(x)
    x = L.Conv2D(6, (3, 1), padding="same", activation="tanh")(x)
    x = L.AveragePooling2D((4, 2))(x)
    return L.Softmax()(L.Conv2D(5, 1)(L.GlobalAveragePooling2D(keepdims=True)(x)))


@good(16, 16, 6)
def dilated(x: Any) -> Any:
    x = L.Conv2D(6, 3, padding="same", dilation_rate=2, activation="relu")(x)
    return L.Dense(4)(L.Flatten()(L.Conv2D(4, 3, dilation_rate=(1, 3))(x)))


@good(12, 12, 4)
def multiplied(x: Any) -> Any:
    """Channel multiplier, separable, groups."""
    x = L.DepthwiseConv2D(3, depth_multiplier=3, padding="same")(x)
    x = L.SeparableConv2D(8, 3, 2, "same", activation="relu")(x)
    return L.Dense(4)(L.Flatten()(L.Conv2D(8, 3, groups=4, activation="relu")(x)))


@good(12, 12, 8)
def shuffled(x: Any) -> Any:
    """ShuffleNet: split, concatenation, channels shuffled; scales that differ."""
    a, b = x[..., :4], x[..., 4:]
    a = L.Conv2D(4, 3, padding="same", activation="relu")(a)
    x = L.Concatenate()([a, b, L.MaxPooling2D(3, 1, "same")(x)])
    x = L.Reshape((12, 12, 8))(L.Permute((1, 2, 4, 3))(L.Reshape((12, 12, 2, 4))(x[..., :8])))
    a, b, c = ops.split(x, (2, 5), axis=3)
    x = L.Concatenate()([L.Conv2D(4, 1)(c), a, b, ops.take(x, [7, 1, 3], axis=3)])
    return L.Dense(3)(L.GlobalMaxPooling2D()(x))


@good(12, 12, 4)
def functions(x: Any) -> Any:
    x = L.PReLU(shared_axes=[1, 2])(L.Conv2D(6, 3)(x))
    x = L.LeakyReLU(0.1)(L.Conv2D(6, 3)(x))
    x = L.Conv2D(6, 1, activation="sigmoid")(x)
    x = L.Conv2D(6, 1, activation="gelu")(x)
    x = L.Conv2D(6, 1, activation="softplus")(x)
    return L.Dense(1, activation="sigmoid")(L.Flatten()(x))


@good(12, 10, 4)
def turned(x: Any) -> Any:
    """Maps turned round, and a part of one."""
    x = L.Permute((2, 1, 3))(L.Conv2D(6, 3, padding="same")(x))
    x = L.Cropping2D(((1, 0), (0, 2)))(x)
    x = L.Conv2D(6, (3, 1), (2, 1), padding="same", activation="relu")(x)
    return L.Permute((3, 1, 2))(L.MaxPooling2D((2, 3))(x))


@good(3, 12, 12, io="float32")
def channels_first(x: Any) -> Any:
    x = L.Conv2D(4, 3, padding="same", activation="relu")(L.Permute((2, 3, 1))(x))
    return L.Dense(3)(L.Flatten()(x))


@good(196, io="uint8")
def flat(x: Any) -> Any:
    x = L.Conv2D(6, 5, 2, activation="relu")(L.Reshape((14, 14, 1))(x))
    return L.Dense(10, activation="softmax")(L.Dense(12, activation="relu6")(L.Flatten()(x)))


@bad(8, 8, 3, kind="float")
def float(x: Any) -> Any:  # noqa: A001  (the name of a file)
    return L.Conv2D(2, 3)(x)


@bad(40, kind="hybrid")
def hybrid(x: Any) -> Any:
    return L.Dense(40)(x)


@bad(8, 8, 3, kind="int16")
def int16(x: Any) -> Any:
    return L.Conv2D(2, 3)(x)


@bad(8, 8, 3)
def edges(x: Any) -> Any:
    return L.AveragePooling2D(3, 2, "same")(L.Conv2D(2, 3)(x))


@bad(8, 8, 3)
def product(x: Any) -> Any:
    return L.Conv2D(2, 3)(x) * L.Conv2D(2, 3)(x)


@bad(8, 8, 3)
def upwards(x: Any) -> Any:
    return L.Conv2DTranspose(2, 3, 2)(x)


@bad(8, 8, 3)
def outputs(x: Any) -> Any:
    return [L.Conv2D(2, 3)(x), L.Conv2D(3, 3)(x)]


@bad(None, None, 3)
def dynamic(x: Any) -> Any:
    return L.Conv2D(2, 3)(x)


def converted(function: Any, shape: tuple[Any, ...], kind: str) -> bytes:
    tf.keras.utils.set_random_seed(sum(map(ord, function.__name__)))
    rng = np.random.default_rng(1)
    source = tf.keras.Input(shape)
    model = tf.keras.Model(source, function(source))
    for layer in model.layers:
        own = layer.get_weights()
        if isinstance(layer, L.BatchNormalization):
            n = own[0].shape
            gamma, beta = rng.uniform(0.5, 1.5, n), rng.normal(0, 0.3, n)
            mean, variance = rng.normal(0, 0.2, n), rng.uniform(0.5, 1.5, n)
            layer.set_weights([gamma, beta, mean, variance])
        elif isinstance(layer, L.PReLU):
            layer.set_weights([rng.uniform(0.05, 0.5, own[0].shape)])
        elif len(own) == 2:
            layer.set_weights([own[0], rng.normal(0, 0.1, own[1].shape)])
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if kind == "float":
        return converter.convert()
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "hybrid":
        return converter.convert()
    sizes = [8 if size is None else size for size in shape]
    sample = [rng.normal(0.3, 1, (1, *sizes)).astype(np.float32) for _ in range(20)]
    converter.representative_dataset = lambda: ([one] for one in sample)
    sets = tf.lite.OpsSet
    if kind == "int16":
        converter.target_spec.supported_ops = [
            sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]
        return converter.convert()
    converter.target_spec.supported_ops = [sets.TFLITE_BUILTINS_INT8]
    if kind != "float32":
        converter.inference_input_type = converter.inference_output_type = getattr(tf, kind)
    return converter.convert()


def vectors(model: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, and what the reference kernels make of them."""
    interpreter = Interpreter(
        model_content=model,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    number = result["index"]
    for one in interpreter._get_ops_details():  # noqa: SLF001  (there is no other way)
        if one["op_name"] == "SOFTMAX":
            number = one["inputs"][0]
    rng = np.random.default_rng(2)
    x = rng.normal(0.3, 1, (N_INPUTS, *source["shape"][1:])).astype(np.float32)
    if source["dtype"] != np.float32:
        scale, zero = source["quantization"]
        kind = np.iinfo(source["dtype"])
        x = np.clip(np.round(x / scale) + zero, kind.min, kind.max).astype(source["dtype"])
    results = []
    for one in x:
        interpreter.set_tensor(source["index"], one[np.newaxis])
        interpreter.invoke()
        results.append(interpreter.get_tensor(number)[0].copy())
    return x, np.array(results)


def main(names: list[str]) -> None:
    for name, (function, shape, kind) in {**GOOD, **BAD}.items():
        if names and name not in names:
            continue
        model = converted(function, shape, kind)
        (HERE / f"{name}.tflite").write_bytes(model)
        if name in GOOD:
            x, expected = vectors(model)
            np.savez_compressed(HERE / f"{name}.npz", x=x, expected=expected)
        sys.stdout.write(f"{name}: {len(model):,} bytes\n")


if __name__ == "__main__":
    main(sys.argv[1:])
