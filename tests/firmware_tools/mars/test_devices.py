"""`--device` of infer, similarity and diff."""

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from firmware_tools.mars.devices import spread
from model.mars import frame, network_file, reference
from model.mars.config import CONFIGS
from model.mars.devices.device import parse
from model.mars.devices.execution import NetworkArrays
from model.mars.devices.faults import Faults, MemoryName
from model.mars.mapper import compile_network


@pytest.fixture
def signed(quantised) -> Path:
    """`quantised` with results of 8 bit with sign, which are not all 0."""

    def change(spec, arrays) -> None:
        spec["layers"][3] |= {"out_signed": True, "out_bits": 8}
        arrays["fc.m"][:] = 60

    return quantised(change)


def test_arrays(kenyon, signed, pictures) -> None:
    """The first chip's results are written; every trial is a chip of its own."""
    net = signed
    result = kenyon(
        *("infer", net, "--input", pictures, "--output", "y.npy", "--device"),
        *("pcm:age=1e4,rows=64", "--seed", "5", "--trials", "3", "--json"),
    )
    assert result.exit_code == 0
    network, inputs = network_file.load(net), np.load(pictures)
    device = parse("pcm:age=1e4,rows=64")
    trials = [
        NetworkArrays(network, device, seed=5, trial=k).run(inputs)[network.output]
        for k in range(3)
    ]
    np.testing.assert_array_equal(np.load("y.npy"), trials[0])
    exact = reference.run(network, inputs)[network.output]
    values = json.loads(result.stdout)
    found = values["device"]
    assert (found["name"], found["seed"], found["chips"]) == ("pcm:age=1e4,rows=64", 5, 3)
    apart = [
        float(np.linalg.norm((one - exact).astype(float)) / np.linalg.norm(exact.astype(float)))
        for one in trials
    ]
    assert found["difference"]["trials"] == pytest.approx(apart)
    assert found["difference"]["sd"] == pytest.approx(np.std(apart, ddof=1))
    classes = exact[:, :, 0, 0].argmax(axis=1)
    agree = [float((one[:, :, 0, 0].argmax(axis=1) == classes).mean()) for one in trials]
    assert found["agreement"]["trials"] == pytest.approx(agree)


def test_digital_sram_is_exact(kenyon, signed, pictures) -> None:
    result = kenyon("infer", signed, "--input", pictures, "--device", "sram")
    assert result.exit_code == 0
    assert "device sram, 1 chip:\n  images with the exact class: 100.00%" in result.stdout
    assert "difference, relative: 0.00%" in result.stdout


def test_golden_machine(kenyon, signed, pictures) -> None:
    """Its macros are of the device: the same images as one by one, clocks as ever."""
    net = signed
    arguments = ("infer", net, "--input", pictures, "--backend", "model", "-c", "mars-tiny")
    exact = json.loads(kenyon(*arguments, "--json").stdout)
    noisy = json.loads(kenyon(*arguments, "--device", "pcm", "--json").stdout)
    assert noisy["clocks"] == exact["clocks"]
    assert noisy["outputs"] != exact["outputs"]


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("memory", [m for m in get_args(MemoryName) if m != "parameters"])
def test_bits(kenyon, signed, pictures, memory: str) -> None:
    """Both machines get the same faulty image and packets."""
    net = signed
    text = f"bits:flips=0.05,memory={memory}"
    arguments = ("infer", net, "--input", pictures, "-c", "mars-tiny", "--device", text, "--json")
    model, rtl = (json.loads(kenyon(*arguments, "--backend", b).stdout) for b in ("model", "rtl"))
    assert model["outputs"] == rtl["outputs"]
    network, inputs = network_file.load(net), np.load(pictures)
    image = compile_network(network, CONFIGS["mars-tiny"])
    faults, key = Faults(flips=0.05, memory=memory), {"seed": 0, "trial": 0}
    own = faults.image(image, **key)
    for k, one in enumerate(inputs):
        read = faults.features(network.input_type, one, **key, image=k)
        cells = faults.cells(image, **key)
        result = frame.run_frame(own, read, cells=cells).result
        assert result.ravel().tolist() == model["outputs"][k]


def test_spread_of_maps() -> None:
    """Results that are no vector have no class."""
    exact = np.array([[[[3, 4]]]])
    found = spread(exact, [exact, exact * 2])
    assert found.agreement is None
    assert found.difference.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--trials", "2"], "--trials must be left out: it is for --device"),
        (["--device", "mram"], "device must be one of sram, sram-analog"),
        (["--device", "missing.toml"], "missing.toml: no such file or directory"),
        (["--device", "pcm:adc_bits=0"], "device pcm: adc_bits must be 2..16, not 0"),
        (["--device", "pcm", "--backend", "rtl"], "must be reference or model with --device pcm"),
        (["--device", "bits"], "--backend must be model or rtl with --device bits"),
        (["--device", "rram", "--backend", "model"], "rows must be at most 16, those of a macro"),
        (["--device", "pcm", "--policy", "p.npz"], "--policy must be left out with --device"),
    ],
)
def test_bad_devices(kenyon, signed, pictures, options: list[str], message: str) -> None:
    result = kenyon("infer", signed, "--input", pictures, *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_similarity(kenyon, signed) -> None:
    """Exact devices are alike in every layer, noisy ones part."""
    net = signed
    np.save("many.npy", np.random.default_rng(6).integers(0, 16, (8, 3, 6, 5)))
    arguments = ("similarity", net, net, "--input", "many.npy", "--json", "--device")
    exact = json.loads(kenyon(*arguments, "sram").stdout)
    assert [pair["cka"] for pair in exact["pairs"]] == pytest.approx([1.0] * len(exact["pairs"]))
    noisy = json.loads(kenyon(*arguments, "fefet:program_noise=0.35").stdout)
    assert min(pair["cka"] for pair in noisy["pairs"]) < 0.99
    assert noisy["device"] == "fefet:program_noise=0.35"
    refused = kenyon(*arguments, "bits")
    assert refused.exit_code == 2
    assert "--device must be one of sram" in refused.stderr
