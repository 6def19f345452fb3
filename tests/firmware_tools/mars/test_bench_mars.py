"""`kenyon bench mars` and the pictures of it."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from model.mars import frame, network_file
from model.mars.config import CONFIGS
from model.mars.mapper import compile_network
from model.mars.network import QuantizedNetwork
from model.mars.random_network import random_input
from model.mars.random_spiking import random_spiking_network
from model.mars.zoo import ZOO, Entry

NOTE = "measured on our reconstruction; not the paper's clock or sparsity"
OPTIONS = ("-c", "mars-tiny", "--network")


@pytest.fixture
def made(quantised, monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """A small network instead of the large ones; lists with what they were to be made."""
    network = network_file.load(quantised())
    calls: list[tuple[object, ...]] = []

    def make(self: Entry, *arguments: object) -> QuantizedNetwork:
        calls.append((self.name, *arguments))
        return network

    monkeypatch.setattr(Entry, "make", make)
    return calls


def test_json(kenyon, quantised) -> None:
    result = kenyon("bench", "mars", *OPTIONS, quantised(), "--clock-mhz", "200", "--json")
    assert result.exit_code == 0
    values = json.loads(result.stdout)
    total, passes = values["total"], values["passes"]
    assert values["note"] == NOTE
    assert values["backend"] == "model"
    assert [one["layers"] for one in passes] == [[], ["a"], ["b", "pool"], ["fc"]]
    # Kept group-sets x pixels, with one macro and one access; loading takes 16 clocks for each.
    # The input is packed: three columns of its three channels in a word, so three taps are left.
    assert [one["bound"] for one in passes] == [0, 6 * 30, 35 * 30, 12 * 16]
    assert total["bound"] == 180 + 1050 + 192
    assert total["bus_bound"] == total["bound"]
    assert values["frames_per_second"] == pytest.approx(200e6 / total["clocks"])
    for one in (*passes, total):
        stalls = one["weight_stalls"] + one["drain_stalls"] + one["layer_stalls"]
        assert one["steps"] + stalls == one["clocks"]
    for name in ("clocks", "accesses", "weight_bits", "feature_writes", "sets_skipped"):
        assert total[name] == sum(one[name] for one in passes)
    assert total["sets_skipped"] == 1
    # The pool leaves out one of five columns, and nothing computes it.
    assert total["accesses"] == 6 * 30 + 35 * 24 + 12
    assert total["utilisation"] == total["accesses"] / total["clocks"]
    assert total["loaded_bits"] == total["weight_bits"] == 53 * 1024
    assert passes[-1]["end"] == total["clocks"]
    assert len(passes[1]["blocks"]) == 2


def test_a_network_in_chunks(kenyon) -> None:
    """Layers are those of the first chunk; the frame is all of them."""
    network = replace(random_spiking_network(3, max_size=5), time_steps=9, exit=None)
    network_file.dump(network, Path("net.npz"))
    values = json.loads(kenyon("bench", "mars", "--network", "net.npz", "--json").stdout)
    image = compile_network(network, CONFIGS["mars"])
    done = frame.run_frame(image, random_input(network, 0)[0])
    assert (values["chunks"], values["frame_clocks"]) == (3, done.clocks)
    assert values["total"]["clocks"] == done.chunks[0][-1].clocks.end < done.clocks
    assert values["frames_per_second"] == pytest.approx(100e6 / done.clocks)
    text = kenyon("bench", "mars", "--network", "net.npz").stdout
    assert f"first of 3 runs of the program; the frame takes {done.clocks:,} clocks" in text


def test_people_read_tables(kenyon, quantised) -> None:
    result = kenyon("bench", "mars", *OPTIONS, quantised())
    assert result.exit_code == 0
    assert f"small on mars-tiny, weight bus 64 bit: {NOTE}" in result.stdout
    bound = "x bound of the layers (1,422)"
    for text in ("(input)", "weight", bound, "index bits", "1 group-sets skipped"):
        assert text in result.stdout


@pytest.mark.usefixtures("stand_in")
def test_rtl(kenyon, quantised) -> None:
    result = kenyon("bench", "mars", *OPTIONS, quantised(), "--backend", "rtl", "--json")
    assert result.exit_code == 0
    values = json.loads(result.stdout)
    assert values["backend"] == "rtl"
    assert values["rtl_clocks_per_second"] > 0


def test_rtl_that_differs(kenyon, quantised, stand_in) -> None:
    def late(trace):
        return replace(trace, result=replace(trace.result, frame_clocks=1))

    stand_in.append(late)
    result = kenyon("bench", "mars", *OPTIONS, quantised(), "--backend", "rtl")
    assert result.exit_code == 1
    assert "not equal: frame: FRAME_CLOCKS must be" in result.stdout


def test_defaults(kenyon, made) -> None:
    assert kenyon("bench", "mars", "--json").exit_code == 0
    assert made == [("vgg16", 0.5, 4, 4, 0)]


def test_options(kenyon, made) -> None:
    result = kenyon(
        *("bench", "mars", "--network", "resnet18", "--sparsity", "0.9", "--weight-bits", "8"),
        *("--act-bits", "3", "--seed", "7", "--weight-bus", "128", "--json"),
    )
    assert made == [("resnet18", 0.9, 8, 3, 7)]
    values = json.loads(result.stdout)
    assert values["weight_bus"] == 128
    assert values["total"]["bus_bound"] > values["total"]["bound"]


def test_table(kenyon, made) -> None:
    result = kenyon("bench", "mars", "--table", "--weight-bus", "128", "--json")
    assert result.exit_code == 0
    values = json.loads(result.stdout)
    assert values["note"] == NOTE
    wanted = [(name, s) for name in ("vgg16", "resnet18") for s in (0.0, 0.5, 0.75)]
    assert [(row["network"], row["sparsity"]) for row in values["rows"]] == wanted
    assert [call[:2] for call in made] == wanted
    for row in values["rows"]:
        assert row["ratio"] == pytest.approx(row["clocks"] / row["bound"])
        assert row["frames_per_second"] == pytest.approx(1e8 / row["clocks"])
    assert "bus bound" not in kenyon("bench", "mars", "--table").stdout


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--table", "--sparsity", "0.5"), "--sparsity must be left out: it is not for --table"),
        (("--weight-bus", "96"), "weight_bus must be 64, 128, 256 or 512, not 96"),
        (
            ("--network", "alexnet"),
            f"--network must be one of {', '.join(ZOO)}, or a file NET.npz, MODEL.tflite or "
            "MODEL.onnx, not alexnet",
        ),
        (
            ("--network", "net.npz", "--act-bits", "4"),
            "--act-bits must be left out: net.npz has its own",
        ),
    ],
)
def test_wrong_options(kenyon, options: tuple[str, ...], error: str) -> None:
    result = kenyon("bench", "mars", *options)
    assert result.exit_code == 2
    assert result.stderr == f"error: {error}\n"


def test_plot(kenyon, quantised) -> None:
    Path("run.json").write_text(
        kenyon("bench", "mars", *OPTIONS, quantised(), "--json").stdout,
    )
    result = kenyon("plot", "run.json", "-o", "run.svg", "--json")
    assert json.loads(result.stdout) == {"picture": "run.svg", "passes": 4}
    ET.parse("run.svg")
    comments = Path("run.svg").read_text()
    for text in ("small on mars-tiny", "b+pool", "waiting for weights", "kernel block computes"):
        assert f"<!-- {text}" in comments
    assert kenyon("plot", "run.json").stdout == "wrote run.png\n"
    assert Path("run.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("{", " (Expecting property name"),
        ("[]", "; it has no passes"),
        ('{"passes": []}', "; it has no passes"),
        ('{"passes": [1]}', "; it has no 'network'"),
        ('{"passes": [1], "network": "n", "configuration": "c", "macros": 1}', "; passes[0] has"),
    ],
)
def test_plot_of_something_else(kenyon, content: str, error: str) -> None:
    Path("run.json").write_text(content)
    result = kenyon("plot", "run.json")
    assert result.exit_code == 2
    what = "error: run.json: must be what `kenyon bench mars --json` wrote"
    assert result.stderr.startswith(what + error)
