"""A model of onnxruntime's on the accelerator: compiled, on the golden machine, on the RTL."""

import json

import numpy as np
import pytest

from firmware_tools import onnx_import
from firmware_tools.mars.inference import on_model
from model.mars import network_file, reference
from model.mars.config import CONFIGS
from model.mars.mapper import compile_network


@pytest.mark.parametrize("config", ["mars-tiny", "mars"])
def test_golden_machine(models, images, config) -> None:
    imported = onnx_import.load(models["int8, per channel"])
    network, inputs = imported.network, imported.quantize(images[:40])
    wanted = reference.run(network, inputs)[network.output]
    results = on_model(compile_network(network, CONFIGS[config]), inputs)
    assert np.array_equal(np.stack([one.output for one in results]), wanted)
    assert len(np.unique(wanted)) > 50


def test_rtl(kenyon, model, images) -> None:
    np.save("images.npy", images[:30])
    result = kenyon("import", model, "-o", "net.npz", "--check", "images.npy")
    assert result.exit_code == 0, result.output
    assert "wrote net.npz: 11 layers, net-images.npy" in result.stdout
    network = network_file.load("net.npz")
    inputs = network_file.load_input("net-images.npy", network)
    assert np.array_equal(inputs, onnx_import.load(model).quantize(images[:30]))
    options = ("--input", "net-images.npy", "--images", "3", "-c", "mars-tiny", "--json")
    result = kenyon("compare", "net.npz", *options)
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert (figures["equal"], figures["images"], figures["passes"]) == (True, 3, 30)
