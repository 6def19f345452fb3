"""`kenyon infer`: three backends, one result."""

import json
from pathlib import Path

import numpy as np
import pytest

from model.mars import network_file, reference
from tb.mars import cosim
from tb.mars.cosim import FrameTrace


def expected(network: Path, pictures: Path) -> np.ndarray:
    net = network_file.load(network)
    return reference.run(net, np.load(pictures))[net.output]


def test_reference(kenyon, quantised, pictures) -> None:
    net = quantised()
    result = kenyon("infer", net, "--input", pictures, "--output", "y.npy")
    assert result.exit_code == 0
    results = np.load("y.npy")
    assert results.dtype == np.int32
    np.testing.assert_array_equal(results, expected(net, pictures))
    first, *_, last = result.stdout.splitlines()
    assert first == "small, backend reference: 3 images"
    assert last == "wrote y.npy"
    assert "clocks" not in result.stdout


def test_reference_json(kenyon, quantised, pictures) -> None:
    net = quantised()
    values = json.loads(kenyon("infer", net, "--input", pictures, "--json").stdout)
    assert values.pop("wall_seconds") > 0
    results = expected(net, pictures)[:, :, 0, 0]
    assert values == {
        "network": "small",
        "backend": "reference",
        "configuration": None,
        "images": 3,
        "shape": [4, 1, 1],
        "classes": results.argmax(axis=1).tolist(),
        "outputs": results.tolist(),
        "clocks": None,
        "passes": [],
        "clock_mhz": 100.0,
        "frames_per_second": None,
        "output": None,
        "notes": [],
    }


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("backend", ["model", "rtl"])
def test_machines(kenyon, quantised, pictures, backend: str) -> None:
    net = quantised()
    result = kenyon(
        *("infer", net, "--input", pictures, "--output", "y.npy", "--backend", backend),
        *("-c", "mars-tiny", "--clock-mhz", "50", "--json"),
    )
    assert result.exit_code == 0
    np.testing.assert_array_equal(np.load("y.npy"), expected(net, pictures))
    values = json.loads(result.stdout)
    assert values["configuration"] == "mars-tiny"
    assert [one["layers"] for one in values["passes"]] == [[], ["a"], ["b", "pool"], ["fc"]]
    assert values["clocks"] == sum(one["clocks"] for one in values["passes"])
    assert values["frames_per_second"] == pytest.approx(50e6 / values["clocks"])


def test_rtl(kenyon, quantised, pictures) -> None:
    net = quantised()
    options = ("--input", pictures, "-c", "mars-tiny", "--json")
    results = [
        json.loads(kenyon("infer", net, *options, "--backend", backend).stdout)
        for backend in ("model", "rtl")
    ]
    for values in results:
        del values["wall_seconds"], values["backend"]
    assert results[0] == results[1]


def test_default_configuration_is_mars(kenyon, quantised, pictures) -> None:
    result = kenyon("infer", quantised(), "--input", pictures, "--backend", "model")
    assert "configuration mars: 3 images" in result.stdout


def test_map_has_no_class(kenyon, quantised, pictures) -> None:
    def without_dense(spec, arrays) -> None:
        spec["layers"].pop()
        for end in "wbms":
            del arrays[f"fc.{end}"]

    result = kenyon("infer", quantised(without_dense), "--input", pictures, "--json")
    values = json.loads(result.stdout)
    assert values["classes"] is None
    assert values["outputs"] is None
    assert values["shape"] == [17, 3, 2]


def test_one_image(kenyon, quantised, pictures) -> None:
    np.save("one.npy", np.load(pictures)[1])
    net = quantised()
    kenyon("infer", net, "--input", "one.npy", "--output", "y.npy")
    np.testing.assert_array_equal(np.load("y.npy"), expected(net, pictures)[1:2])


def test_interrupt_leaves_finished_images(
    kenyon, quantised, pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = quantised()
    run, calls = reference.run, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return run(*arguments)

    right = expected(net, pictures)
    monkeypatch.setattr(reference, "run", interrupted)
    result = kenyon("infer", net, "--input", pictures, "--output", "y.npy")
    assert result.exit_code == 130
    assert result.stderr == "interrupted after 2 of 3 images; y.npy holds them\n"
    np.testing.assert_array_equal(np.load("y.npy"), right[:2])


def test_interrupt_at_once(kenyon, quantised, pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(reference, "run", interrupted)
    result = kenyon("infer", quantised(), "--input", pictures, "--output", "y.npy")
    assert result.exit_code == 130
    assert result.stderr == "interrupted after 0 of 3 images\n"
    assert not Path("y.npy").exists()


def test_frame_that_fails(kenyon, quantised, pictures, stand_in) -> None:
    def bus_error(trace: FrameTrace) -> FrameTrace:
        result = cosim.JobResult(0b0110, *[0] * 4, (), 0.1)
        return FrameTrace(trace.passes, trace.output, result)

    stand_in.append(bus_error)
    result = kenyon("infer", quantised(), "--input", pictures, "--backend", "rtl")
    assert result.exit_code == 1
    assert result.stderr == "error: frame 0 must end with STATUS 2, not 6\n"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (
            ("-c", "mars"),
            "--config must be left out with --backend reference: it has none",
        ),
        (
            ("-c", "tiny", "--backend", "model"),
            "configuration must be one of mars-tiny, mars, mars-wide for MARS, not tiny",
        ),
        (("--output", "y.txt"), "y.txt: output must end in .npy"),
        (("--output", "none/y.npy"), "none/y.npy: folder must exist: none"),
        (("--input", "x.npz"), "x.npz: input must end in .npy"),
        (("--input", "none.npy"), "none.npy: no such file"),
    ],
)
def test_options(kenyon, quantised, pictures, options: tuple[str, ...], error: str) -> None:
    result = kenyon("infer", quantised(), "--input", pictures, *options)
    assert result.exit_code == 2
    assert result.stderr == f"error: {error}\n"


def test_network_of_the_npu(kenyon, tonic, pictures) -> None:
    path = tonic()
    result = kenyon("infer", path, "--input", pictures)
    assert result.exit_code == 2
    endings = ".npz, .tflite, .onnx"
    assert result.stderr == f"error: {path}: quantised network must end in one of {endings}\n"
