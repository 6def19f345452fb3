"""`kenyon similarity`."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from firmware_tools.similarity.cka import Cka
from model.mars import network_file, reference
from model.mars.network import INPUT, Conv, Dense, FeatureType, QuantizedNetwork
from model.mars.neuron import Neuron

DOCS = Path(__file__).parents[3] / "docs"
STEPS = 3
N_IMAGES = 20


def network(*, spiking: bool, seed: int = 1, names: tuple[str, ...] = ("one", "two", "out")):
    """A small network or its spiking twin, which has the same weights and names."""
    rng = np.random.default_rng(seed)
    one, two, out = (rng.integers(-7, 8, shape) for shape in ((6, 2, 3, 3), (5, 6, 3, 3), (4, 80)))

    def rest(weight: np.ndarray, level: int) -> dict:
        n = len(weight)
        common = {"weight": weight, "bias": np.zeros(n, np.int64), "weight_bits": 4}
        if spiking:
            neuron = Neuron(bits=12, threshold=np.full(n, level), reset="soft")
            return {**common, "out_bits": 1, "out_signed": False, "neuron": neuron}
        scale = {"mult": np.full(n, 300), "shift": np.full(n, 13)}
        return {**common, "out_bits": 4, "out_signed": False, **scale}

    raw = {"bias": np.zeros(4, np.int64), "weight_bits": 4, "out_bits": 32, "out_signed": True}
    layers = (
        Conv(name=names[0], input=INPUT, padding=1, **rest(one, 150)),
        Conv(name=names[1], input=names[0], padding=0, **rest(two, 20)),
        Dense(name=names[2], input=names[1], weight=out, **raw),
    )
    kind = FeatureType((2, 6, 6), 4, signed=False)
    name = "spiking" if spiking else "cnn"
    return QuantizedNetwork(kind, layers, name, time_steps=STEPS if spiking else 0)


@pytest.fixture
def pictures() -> np.ndarray:
    images = np.random.default_rng(3).integers(0, 16, (N_IMAGES, 2, 6, 6))
    np.save("x.npy", images)
    return images


@pytest.fixture
def twins(pictures: np.ndarray) -> tuple[str, str]:
    assert pictures.shape[1:] == network(spiking=False).input_type.shape
    for spiking in (False, True):
        made = network(spiking=spiking)
        network_file.dump(made, Path(f"{made.name}.npz"))
    return "cnn.npz", "spiking.npz"


def expected(first, second, size: int) -> np.ndarray:
    total = Cka()
    for start in range(0, N_IMAGES, size):
        total.add(*([one[start : start + size] for one in part] for part in (first, second)))
    return total.values


def values_of(result) -> dict:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_by_layer(kenyon, twins, pictures) -> None:
    arguments = ("similarity", *twins, "--input", "x.npy", "--batch", "10")
    values = values_of(kenyon(*arguments, "--json"))
    runs = [reference.run(network(spiking=s), pictures) for s in (False, True)]
    wanted = expected(*(list(run.values()) for run in runs), 10)  # all steps are one vector
    np.testing.assert_array_equal(values["cka"], wanted)
    assert values["rows"] == [{"layer": name, "step": 0} for name in ("one", "two", "out")]
    assert values["batches"] == 2
    assert [pair["cka"] for pair in values["pairs"]] == np.diag(wanted).tolist()
    assert all(pair["first"] == pair["second"] for pair in values["pairs"])
    text = kenyon(*arguments).stdout
    assert "CKA of cnn.npz and spiking.npz: 20 images in 2 minibatches" in text
    assert f"{wanted[1, 1]:.4f}" in text


def test_by_step(kenyon, twins, pictures) -> None:
    arguments = ("similarity", *twins, "--input", "x.npy", "--by", "step")
    values = values_of(kenyon(*arguments, "--json"))
    first, second = (reference.run(network(spiking=s), pictures) for s in (False, True))
    steps = [maps[:, t] for maps in second.values() for t in range(STEPS)]
    wanted = expected(list(first.values()), steps, N_IMAGES)
    np.testing.assert_array_equal(values["cka"], wanted)
    assert values["columns"][4] == {"layer": "two", "step": 2}
    assert [pair["cka"] for pair in values["pairs"]] == [
        *wanted[0, :3],
        *wanted[1, 3:6],
        *wanted[2, 6:],
    ]
    assert "by time step" in kenyon(*arguments).stdout


def test_steps_and_steps(kenyon, twins) -> None:
    values = values_of(
        kenyon("similarity", twins[1], twins[1], "--input", "x.npy", "--by", "step", "--json")
    )
    cka = np.array(values["cka"])
    assert cka.shape == (9, 9)
    np.testing.assert_allclose(np.diag(cka), 1, atol=1e-12)
    assert cka[0, 1] < 0.99
    assert len(values["pairs"]) == 9
    assert values["parts_at"] is None


def test_where_they_part(kenyon, twins) -> None:
    changed = network(spiking=False)
    two = replace(changed.layers[1], weight=np.random.default_rng(9).integers(-7, 8, (5, 6, 3, 3)))
    layers = (changed.layers[0], two, changed.layers[2])
    network_file.dump(QuantizedNetwork(changed.input_type, layers, "other"), Path("other.npz"))
    arguments = ("similarity", twins[0], "other.npz", "--input", "x.npy")
    values = values_of(kenyon(*arguments, "--json"))
    first, second, _ = (pair["cka"] for pair in values["pairs"])
    assert first == pytest.approx(1, abs=1e-12)
    assert second < 0.9
    assert values["parts_at"]["first"] == {"layer": "two", "step": 0}
    assert f"they part at two: {second:.4f} is the first below 0.9" in kenyon(*arguments).stdout
    last = min(pair["cka"] for pair in values["pairs"])
    text = kenyon(*arguments, "--below", f"{last:.6f}").stdout
    assert ("they do not part: no pair is below" in text) == (last >= float(f"{last:.6f}"))


def test_other_names_are_matched_by_likeness(kenyon, twins) -> None:
    renamed = network(spiking=False, names=("a", "b", "c"))
    network_file.dump(renamed, Path("renamed.npz"))
    arguments = ("similarity", twins[0], "renamed.npz", "--input", "x.npy")
    values = values_of(kenyon(*arguments, "--json"))
    assert not values["same_names"]
    assert [pair["second"]["layer"] for pair in values["pairs"]] == ["a", "b", "c"]
    assert "no layer has a name of the other network" in kenyon(*arguments).stdout


def test_layer_that_never_fires(kenyon, twins) -> None:
    silent = network(spiking=True)
    neuron = Neuron(bits=12, threshold=np.full(6, 100_000), reset="soft")
    layers = (replace(silent.layers[0], neuron=neuron), *silent.layers[1:])
    made = QuantizedNetwork(silent.input_type, layers, "silent", time_steps=STEPS)
    network_file.dump(made, Path("silent.npz"))
    arguments = ("similarity", twins[0], "silent.npz", "--input", "x.npy", "--plot", "a.svg")
    values = values_of(kenyon(*arguments, "--json"))
    assert values["cka"] == [[None] * 3] * 3
    assert values["parts_at"] is None
    assert kenyon(*arguments).stdout.count("const") == 3
    assert Path("a.svg").stat().st_size > 1000


def test_picture(kenyon, twins) -> None:
    options = ("--input", "x.npy", "--by", "step", "--plot", "cka.png")
    result = kenyon("similarity", *twins, *options)
    assert result.stdout.endswith("wrote cka.png\n")
    assert Path("cka.png").read_bytes().startswith(b"\x89PNG")


def test_images_that_are_too_few_for_a_minibatch_are_left_out(kenyon, twins) -> None:
    arguments = ("similarity", *twins, "--input", "x.npy", "--batch", "6")
    values = values_of(kenyon(*arguments, "--json"))
    assert (values["images"], values["batches"]) == (18, 3)
    assert "18 images in 3 minibatches, 2 left out" in kenyon(*arguments).stdout


def save_float(
    path: str, weights: QuantizedNetwork, batch: int | str = "n", rows: int | str = 6
) -> None:
    """The same network in real numbers."""
    one, two, out = (layer.weight.astype(np.float32) for layer in weights.layers)
    arrays = {"w1": one, "w2": two, "w3": out.T.copy()}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="one", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="two"),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("Flatten", ["r2"], ["f"], name="flat"),
        helper.make_node("MatMul", ["f", "w3"], ["y"], name="out"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 2, rows, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


@pytest.mark.parametrize("batch", ["n", 1, 5, 7])
def test_float_onnx(kenyon, twins, pictures, batch: int | str) -> None:
    save_float("float.onnx", network(spiking=False), batch)
    arguments = ("similarity", "float.onnx", twins[0], "--input", "x.npy")
    values = values_of(kenyon(*arguments, "--json"))
    assert [place["layer"] for place in values["rows"]] == ["one", "two", "out"]
    first, second, _ = (pair["cka"] for pair in values["pairs"])
    assert 0.95 < first < 1  # its results behind Relu, the other's rounded to 4 bit
    assert second > 0.8
    run = reference.run(network(spiking=False), pictures)
    one = network(spiking=False).layers[0].weight
    real = np.maximum(reference.convolve(pictures, one, padding=(1, 1, 1, 1)), 0)
    wanted = expected([real], [run["one"]], N_IMAGES)[0, 0]
    assert first == pytest.approx(wanted, abs=1e-6)


def test_float_onnx_takes_other_images(kenyon, twins, pictures) -> None:
    save_float("float.onnx", network(spiking=False))
    np.save("real.npy", pictures / 16)
    options = ("--input", "real.npy", "--input-b", "x.npy", "--json")
    values = values_of(kenyon("similarity", "float.onnx", twins[0], *options))
    assert values["pairs"][0]["cka"] > 0.95


def test_bad_float_onnx(kenyon, twins, monkeypatch: pytest.MonkeyPatch) -> None:
    save_float("float.onnx", network(spiking=False))
    np.save("flat.npy", np.zeros((8, 72)))
    result = kenyon("similarity", "float.onnx", twins[0], "--input", "flat.npy")
    assert result.stderr == "error: flat.npy: shape must be (N, 2, 6, 6), not (8, 72)\n"
    save_float("free.onnx", network(spiking=False), rows="h")
    result = kenyon("similarity", "free.onnx", twins[0], "--input", "x.npy")
    assert result.stderr == "error: free.onnx: model must have one input of a fixed shape\n"
    Path("cut.onnx").write_bytes(Path("float.onnx").read_bytes()[:300])
    result = kenyon("similarity", "cut.onnx", twins[0], "--input", "x.npy")
    assert result.stderr.startswith("error: cut.onnx: must be an ONNX model, cut or damaged?")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = kenyon("similarity", "float.onnx", twins[0], "--input", "x.npy")
    assert result.exit_code == 2
    assert "the package onnxruntime must be installed" in result.stderr


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--batch", "3"), "--batch must be at least 4, not 3"),
        (("--plot", "cka.gif"), "cka.gif: picture must end in .png or .svg"),
        (("--plot", "no/cka.png"), "no/cka.png: folder must exist: no"),
        (("--input-b", "few.npy"), "--input-b must have 20 images, as --input has, not 3"),
        (("--input-b", "high.npy"), "high.npy: image 0, channel 0, row 0, column 0 must be 0..15"),
    ],
)
def test_bad_options(kenyon, twins, pictures, options, error: str) -> None:
    np.save("few.npy", pictures[:3])
    np.save("high.npy", pictures + 100)
    result = kenyon("similarity", *twins, "--input", "x.npy", *options)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {error}")


def test_too_few_images(kenyon, twins, pictures) -> None:
    np.save("few.npy", pictures[:3])
    result = kenyon("similarity", *twins, "--input", "few.npy")
    assert result.exit_code == 2
    assert result.stderr == "error: few.npy: images must be at least 4, not 3\n"


def test_steps_that_neither_has(kenyon, twins) -> None:
    result = kenyon("similarity", twins[0], twins[0], "--input", "x.npy", "--by", "step")
    assert result.exit_code == 2
    assert result.stderr == "error: --by must be layer: neither network has time steps\n"


def test_documentation(kenyon, twins, pictures, capsys: pytest.CaptureFixture[str]) -> None:
    """Its example in Python, and its conversion, here of another network."""
    programs = re.findall(r"```python\n(.*?)```", (DOCS / "similarity.md").read_text(), re.DOTALL)
    example, conversion = programs
    exec(example, {})
    assert capsys.readouterr().out.startswith("[[1.")
    Path(twins[0]).rename("d4.npz")
    exec(conversion, {})
    first, second = (
        reference.run(network_file.load(name), pictures) for name in ("d4.npz", "spiking.npz")
    )
    for name in ("one", "two"):  # rates are the activations, as far as eight steps tell
        rate = second[name].mean(axis=1)
        assert np.abs(first[name] / 15 - rate).max() < 0.2
        assert len(np.unique(rate)) == 9
    assert kenyon("similarity", "d4.npz", "spiking.npz", "--input", "x.npy").exit_code == 0
