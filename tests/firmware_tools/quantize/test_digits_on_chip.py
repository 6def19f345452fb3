"""The README's network: what PyTorch computes is what the chip computes, on all test images."""

import json
from pathlib import Path

import numpy as np
import pytest

from firmware_tools.mars.inference import on_model
from firmware_tools.quantize import digits
from firmware_tools.quantize.training import load_result
from model.mars import network_file, reference
from model.mars.config import CONFIGS
from model.mars.mapper import compile_network


@pytest.mark.full
def test_trained_network(kenyon) -> None:
    """3 bits, 75 % sparse: twin = reference = golden machine, 100 images also on the RTL."""
    result = kenyon("train", "digits", "--bits", "3", "--sparsity", "0.75", "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["equal"]
    assert figures["group_sparsity"] >= 0.75
    assert figures["accuracy"] > 0.97

    network = network_file.load("digits.npz")
    _, twin = load_result(Path("digits.pt"))
    images = digits.load().test.images
    inputs = network_file.load_input("digits-images.npy", network)
    assert len(inputs) == 500
    wanted = reference.run(network, inputs)
    for name, ints in twin.integers(images).items():
        assert np.array_equal(ints, wanted.get(name, inputs)), name
    on_machine = on_model(compile_network(network, CONFIGS["mars"]), inputs)
    logits = np.stack([one.output for one in on_machine])
    assert np.array_equal(logits, wanted[network.output])

    options = ("--input", "digits-images.npy", "--images", "100", "--json")
    result = kenyon("compare", "digits.npz", *options)
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert (figures["equal"], figures["images"], figures["configuration"]) == (True, 100, "mars")


@pytest.mark.full
def test_trained_spiking_network(kenyon) -> None:
    """Four steps, 4 bits, an exit: twin = reference = golden machine on all test images."""
    options = ("--spiking", "--exit", "confidence:0.8", "--json")
    result = kenyon("train", "digits", *options)
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["equal"]
    assert figures["accuracy"] > 0.98
    assert abs(figures["exit_accuracy"] - figures["accuracy"]) <= 0.004
    assert figures["mean_steps"] <= 1.5

    network = network_file.load("digits.npz")
    inputs = network_file.load_input("digits-images.npy", network)
    wanted = reference.run(network, inputs)[network.output]
    on_machine = on_model(compile_network(network, CONFIGS["mars"]), inputs)
    for one, logits in zip(on_machine, wanted, strict=True):
        assert np.array_equal(one.logits, logits)  # of every step

    # In one run of the program, and step by step: every value, membrane, clock and step.
    for config, n_images, chunk in (
        ("mars-tiny", 3, ()),
        ("mars-tiny", 3, ("--chunk", "1")),
        ("mars", 20, ()),
        ("mars", 20, ("--chunk", "1")),
    ):
        options = ("--input", "digits-images.npy", "--images", str(n_images), "-c", config)
        result = kenyon("compare", "digits.npz", *options, "--json", *chunk)
        assert result.exit_code == 0, result.output
        figures = json.loads(result.stdout)
        assert (figures["equal"], figures["images"]) == (True, n_images)
