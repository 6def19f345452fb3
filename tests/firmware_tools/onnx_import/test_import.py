"""Imported ONNX models against onnxruntime, and on the accelerator."""

import json
from pathlib import Path

import numpy as np
import pytest
from onnxruntime.quantization import QuantType

from firmware_tools import onnx_import
from firmware_tools.onnx_import import check
from firmware_tools.onnx_import.check import compare, run_onnxruntime
from model.mars import network_file, reference
from model.mars.network import AvgPool, Conv, Dense, MaxPool, QuantizedNetwork

STYLES = ("uint8", "int8, per channel", "symmetric")


@pytest.mark.parametrize("style", STYLES)
def test_agrees_with_onnxruntime(models, images, style) -> None:
    imported = onnx_import.load(models[style])
    assert max(imported.errors.values()) < 0.01
    # In float32: integer kernels of processors without VNNI saturate sums of two products.
    agreement = compare(models[style], imported, images, optimize=False)
    assert agreement.images == 360
    assert agreement.top1_equal == 1
    assert agreement.within_one >= 0.999
    assert agreement.equal >= 0.96


def test_whole_data_set_with_integer_kernels(models, digits) -> None:
    path = models["uint8"]
    agreement = compare(path, onnx_import.load(path), digits[0])
    assert (agreement.images, agreement.top1_equal) == (1797, 1)
    assert agreement.within_one >= 0.999


def test_layers(models) -> None:
    network = onnx_import.load(models["uint8"]).network
    kinds = {layer.name: type(layer) for layer in network.layers}
    names = {"conv1", "pool1", "conv2", "conv3", "conv4", "add1", "conv5", "conv6", "add2"}
    assert set(kinds) == names | {"average", "last"}
    assert kinds["pool1"] is MaxPool
    assert kinds["average"] is AvgPool
    assert kinds["last"] is Dense
    assert (network.input_type.shape, network.input_type.bits) == ((1, 8, 8), 8)
    assert not network.input_type.signed
    add = network.layer("add2")
    assert isinstance(add, Conv)
    assert {add.input, add.skip} == {"conv5", "conv6"}
    assert np.count_nonzero(add.weight) == len(add.weight)


def test_storage_is_the_models(models) -> None:
    for style, signed in (("uint8", False), ("symmetric", True)):
        imported = onnx_import.load(models[style])
        types = imported.network.types.values()
        assert {(kind.bits, kind.signed) for kind in types} == {(8, signed)}
    assert set(imported.zeros.values()) == {0}


def test_int8_and_uint8_are_one(float_model, quantise, images, models) -> None:
    """They differ by 128 in all zero points."""
    path = quantise(float_model, activation_type=QuantType.QInt8)
    results = []
    for file in (path, models["uint8"]):
        imported = onnx_import.load(file)
        results.append(reference.run(imported.network, imported.quantize(images[:10])))
    for name, values in results[0].items():
        assert np.array_equal(values + 128, results[1][name])


def test_wide_multipliers(models, images) -> None:
    imported = onnx_import.load(models["uint8"], wide=True)
    assert max(imported.errors.values()) < 1e-6
    assert compare(models["uint8"], imported, images, optimize=False).equal >= 0.98


def test_channel_that_is_all_but_gone(weights, changed, quantise, images, styles) -> None:
    """Its bias is more than 32 bits of its accumulator's steps."""
    w3 = weights["w3"].copy()
    w3[5] *= 1e-8
    b3 = weights["b3"].copy()
    b3[5] = 2.0
    path = quantise(changed(w3=w3, b3=b3), **styles["int8, per channel"])
    imported = onnx_import.load(path)
    assert max(imported.errors.values()) < 0.02
    agreement = compare(path, imported, images, optimize=False)
    assert agreement.within_one >= 0.999


def test_raw_output(float_model, quantise, images) -> None:
    path = quantise(float_model, extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]})
    imported = onnx_import.load(path)
    assert imported.network.types["last"].bits == 32
    results = reference.run(imported.network, imported.quantize(images[:50]))["last"]
    expected = run_onnxruntime(path, images[:50], optimize=False)
    real = imported.dequantize(results).reshape(expected.shape)
    assert np.abs(real - expected).max() < 0.05 * np.abs(expected).max()


def test_command(kenyon, model, images, tmp_path) -> None:
    np.save("images.npy", images[:20])
    result = kenyon("import", model, "-o", "net.npz", "--check", "images.npy", "--json")
    assert result.exit_code == 0
    values = json.loads(result.stdout)
    assert values["network"] == "net.npz"
    assert values["input"]["shape"] == [1, 8, 8]
    assert values["agreement"]["top1_equal"] == 1
    assert [row["name"] for row in values["layers"]][-1] == "last"
    loaded = network_file.load(tmp_path / "net.npz")
    assert isinstance(loaded, QuantizedNetwork)
    assert loaded.scales["last"] == values["layers"][-1]["scale"]
    result = kenyon("import", model, "-o", "net.npz")
    assert result.exit_code == 0
    assert "wrote net.npz: 11 layers" in result.stdout


def test_command_refuses(kenyon, model) -> None:
    result = kenyon("import", "none.onnx", "-o", "net.npz")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: none.onnx: no such file or directory\n",
    )
    result = kenyon("import", model, "-o", "none/net.npz")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: none/net.npz: folder must exist: none\n",
    )
    np.save("images.npy", np.zeros((2, 3, 8, 8)))
    result = kenyon("import", model, "-o", "net.npz", "--check", "images.npy")
    assert result.exit_code == 2
    assert "images.npy: shape must be (N, 1, 8, 8), not (2, 3, 8, 8)" in result.stderr
    Path("text.txt").write_text("text")
    for arguments, text in (
        (("text.txt", "-o", "net.npz"), "text.txt: must be an ONNX model, cut or damaged? ("),
        ((model, "-o", "net.onnx"), "net.onnx: network file must end in .npz"),
        (
            (model, "-o", "net.npz", "--check", "text.txt"),
            "text.txt: must be an .npy file of numbers, cut or damaged?",
        ),
    ):
        result = kenyon("import", *arguments)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"error: {text}")
        assert result.stderr.count("\n") == 1
    assert not Path("net.npz").exists()


@pytest.mark.parametrize(
    ("text", "exact"),
    [
        ("flags\t\t: fpu avx2 avx512_vnni\n", True),
        ("flags\t\t: fpu avx2 avx_vnni\n", True),
        ("flags\t\t: fpu avx2\n", False),
        ("Features\t: fp asimd\n", True),
    ],
)
def test_processors_with_exact_kernels(monkeypatch, tmp_path, text: str, exact: bool) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(text)
    monkeypatch.setattr(check, "CPU_INFO", info)
    assert check.has_exact_kernels() is exact
    monkeypatch.setattr(check, "CPU_INFO", tmp_path / "none")
    assert check.has_exact_kernels()
