"""Scale and shift that are trained, and the verb."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from firmware_tools.adaptation import fine_tuning, moments, study
from firmware_tools.adaptation.errors import AdaptationError
from firmware_tools.adaptation.study import DeepDigits, Run, Study, as_inputs, markdown
from firmware_tools.quantize import digits
from firmware_tools.quantize.twin import calibrate, export, quantize
from model.mars import network_file, reference
from model.mars.config import CONFIGS
from model.mars.devices.device import parse
from model.mars.devices.execution import NetworkArrays
from model.mars.mapper import compile_network
from model.mars.network import Conv, Lookup, QuantizedNetwork

DEVICE = "rram:program_noise=0.5"
SEED = 3


@pytest.fixture(scope="module")
def data() -> digits.Data:
    return digits.load()


@pytest.fixture(scope="module")
def net(data: digits.Data) -> QuantizedNetwork:
    """Eight convolutions on the digits, not trained: random features that vary."""
    import torch

    torch.manual_seed(0)
    model = DeepDigits().eval()
    twin = quantize(model, 4, 4)
    calibrate(twin, data.training.images[:64])
    return export(twin, "deep")


def loss(net: QuantizedNetwork, arrays: NetworkArrays, inputs, labels) -> float:
    """Cross-entropy of logits that are divided by their spread."""
    logits = reference.run(net, inputs, arrays.products())[net.output].reshape(len(inputs), -1)
    z = 3 * (logits - logits.mean()) / logits.std()
    z -= np.log(np.exp(z).sum(axis=1, keepdims=True))
    return float(-z[np.arange(len(labels)), labels].mean())


def test_training(
    net: QuantizedNetwork, data: digits.Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start computes what `statistics` leaves; training lowers the loss; weights stay."""
    inputs, labels = as_inputs(net, data.training.images[:64]), data.training.labels[:64].numpy()
    arrays = NetworkArrays(net, parse(DEVICE), seed=SEED)
    start = moments.statistics(net, arrays, inputs)
    monkeypatch.setattr(fine_tuning, "EPOCHS", 3)
    monkeypatch.setattr(fine_tuning, "BATCH", 32)
    tuned = fine_tuning.fine_tune(net, arrays, inputs, labels)
    again = fine_tuning.fine_tune(net, arrays, inputs, labels)
    assert loss(tuned, arrays, inputs, labels) < loss(start, arrays, inputs, labels) - 0.02
    for layer, its, twice in zip(net.layers, tuned.layers, again.layers, strict=True):
        if isinstance(layer, Conv):
            np.testing.assert_array_equal(layer.weight, its.weight)
            np.testing.assert_array_equal(its.mult, twice.mult)
            np.testing.assert_array_equal(its.bias, twice.bias)
            assert not np.array_equal(layer.bias, its.bias)


def test_forward_is_the_networks(net: QuantizedNetwork, data: digits.Data) -> None:
    """Before a step of training, logits are those of the adapted network on the same accesses."""
    inputs = as_inputs(net, data.training.images[:32])
    arrays = NetworkArrays(net, parse(DEVICE), seed=SEED)
    start = moments.statistics(net, arrays, inputs)
    trained = fine_tuning.begin(start, arrays, inputs)
    found = fine_tuning.forward(start, arrays, trained, inputs, 0).detach().numpy()
    exact = reference.run(start, inputs, arrays.products(moments.OTHER_IMAGES))[start.output]
    unit = trained[start.output].unit
    apart = np.abs(found / (fine_tuning.LOGITS / unit) - exact)
    # Factors have 16 bits in the network and are real here: few values differ, by one step.
    assert np.median(apart) < 0.02 * np.abs(exact).std()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(3, np.int64), "labels must be 4 integers, a class for each image, not int64"),
        (np.zeros(4), "labels must be 4 integers, a class for each image, not float64"),
        (np.array([0, 1, 2, 10]), r"labels must be 0..9, not 0..10"),
    ],
)
def test_bad_labels(net: QuantizedNetwork, labels: np.ndarray, message: str) -> None:
    arrays = NetworkArrays(net, parse("sram"))
    with pytest.raises(AdaptationError, match=message):
        fine_tuning.fine_tune(net, arrays, np.zeros((4, 1, 8, 8), np.int64), labels)


def test_layers_that_cannot_be_trained_through(net: QuantizedNetwork) -> None:
    table = Lookup(name="table", input="pool2", table=np.arange(16), out_bits=4, out_signed=False)
    first = [layer for layer in net.layers if layer.name not in {"conv4", "fc"}]
    spoiled = replace(net, layers=(*first, table), scales={})
    arrays = NetworkArrays(spoiled, parse("sram"))
    with pytest.raises(AdaptationError, match="layer 'table': must be a convolution, a dense la"):
        fine_tuning.fine_tune(
            spoiled, arrays, np.zeros((2, 1, 8, 8), np.int64), np.zeros(2, np.int64)
        )


def test_verb(kenyon, net: QuantizedNetwork) -> None:
    """What is written is what the functions give; the patch makes one program the other."""
    network_file.dump(net, Path("net.npz"))
    inputs = np.random.default_rng(1).integers(0, 16, (24, 1, 8, 8))
    np.save("x.npy", inputs)
    result = kenyon(
        *("adapt", "net.npz", "--device", "fefet", "--input", "x.npy", "-o", "out.npz"),
        *("--patch", "lines.json", "-c", "mars-tiny", "--seed", "2", "--json"),
    )
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout)
    arrays = NetworkArrays(net, parse("fefet"), seed=2)
    expected = moments.statistics(net, arrays, inputs)
    written = network_file.load(Path("out.npz"))
    for layer, its in zip(expected.layers, written.layers, strict=True):
        if isinstance(layer, Conv):
            np.testing.assert_array_equal(layer.bias, its.bias)
            np.testing.assert_array_equal(layer.mult, its.mult)
    before, after = (compile_network(one, CONFIGS["mars-tiny"]) for one in (net, written))
    lines = before.lines.copy()
    for one in json.loads(Path("lines.json").read_text())["lines"]:
        lines[one["line"]] = [int(word, 16) for word in one["words"]]
    np.testing.assert_array_equal(lines, after.lines)
    assert values["patch"]["lines"] < 0.1 * values["patch"]["program_lines"]
    assert values["accuracy"] is None
    assert set(values["pc2"]) == set(arrays.layers)
    assert values["after"]["difference"]["mean"] < values["before"]["difference"]["mean"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "bits"], "--device must be one of sram"),
        (["--device", "sram", "--labels", "l.npy"], "--labels must be left out without --input"),
        (["--device", "sram", "-c", "mars"], "--config must be left out without --patch"),
        (["--device", "sram", "-o", "out.onnx"], "out.onnx: must end in .npz"),
        (
            ["--device", "sram", "--input", "x.npy", "--method", "fine-tune"],
            "--labels must be given",
        ),
        (["--device", "sram", "--input", "y.npy"], "y.npy: shape must be"),
        (["--device", "sram", "--input", "none.npy"], "error: none.npy: no such file"),
        (
            ["--device", "sram", "--input", "x.npy", "--labels", "l.npy"],
            "labels must be 4 integers, a class for each image, not int64 of shape (3,)",
        ),
        (["--device", "sram:adc_bits=0"], "device sram: adc_bits must be 2..32, not 0"),
    ],
)
def test_bad_input(kenyon, net: QuantizedNetwork, options: list[str], message: str) -> None:
    network_file.dump(net, Path("net.npz"))
    np.save("x.npy", np.zeros((4, 1, 8, 8), np.int64))
    np.save("y.npy", np.zeros((4, 2, 8, 8), np.int64))
    np.save("l.npy", np.zeros(3, np.int64))
    result = kenyon("adapt", "net.npz", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_study_table() -> None:
    """Mean and standard deviation of the seeds, methods down, sizes across."""
    methods = ("unrepaired", "gain", "statistics", "fine-tune")
    runs = [
        Run(size, seed, 0.99, dict.fromkeys(methods, 0.5 + 0.1 * seed), {"a": 0.001, "b": 0.002})
        for size in (64, 128)
        for seed in (0, 1)
    ]
    lines = markdown(runs).splitlines()
    assert lines[0] == "| accuracy, % | 64x64 | 128x128 |"
    assert lines[2] == "| exact | 99.00 ± 0.00 | 99.00 ± 0.00 |"
    assert lines[4] == "| gain | 55.00 ± 7.07 | 55.00 ± 7.07 |"
    assert lines[7] == "| largest PC2 of a layer | 0.0020 | 0.0020 |"
    assert len(Study("rram", 3)) == 6


def test_study_of_mnist(kenyon, net: QuantizedNetwork, monkeypatch) -> None:
    """MNIST's images train, adapt and test."""
    seen = []

    def trained(data):
        seen.append(len(data.training))
        return SimpleNamespace(network=net)

    def measured(_network, device, seed, data):
        seen.append((device.rows, len(data.test)))
        return Run(device.rows, seed, 1.0, dict.fromkeys(study.METHODS, 1.0), {"a": 0.0})

    monkeypatch.setattr(study, "Training", lambda _settings, data: data)
    monkeypatch.setattr(study, "train", trained)
    monkeypatch.setattr(study, "measure", measured)
    result = kenyon("bench", "adaptation", "--data", "mnist", "--seeds", "1", "--json")
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert values["data"] == "5,000 images of MNIST as 8x8, 1,000 test images"
    assert seen == [4000, (64, 1000), (128, 1000)]
