"""`kenyon compile` and `kenyon inspect` for MARS."""

import json
from pathlib import Path

import pytest

from model.mars import network_file
from model.mars.config import CONFIGS
from model.mars.image import write_image
from model.mars.mapper import compile_network

TINY = CONFIGS["mars-tiny"]


def test_compile(kenyon, quantised) -> None:
    net = quantised()
    result = kenyon("compile", net, "-o", "net.img", "-c", "mars-tiny")
    assert result.exit_code == 0
    data = Path("net.img").read_bytes()
    assert data == write_image(compile_network(network_file.load(net), TINY))
    assert result.stdout == (
        f"wrote net.img: {len(data):,} bytes for configuration mars-tiny ({TINY.fingerprint:08x})\n"
    )


def test_default_configuration_is_mars(kenyon, quantised) -> None:
    result = kenyon("compile", quantised(), "-o", "net.img", "--json")
    assert json.loads(result.stdout)["configuration"] == "mars"


def larger(shape: list[int]):
    """A network of one layer on a larger map."""

    def change(spec, arrays) -> None:
        spec["input"]["shape"] = shape
        spec["layers"].pop()
        for end in "wbms":
            del arrays[f"fc.{end}"]

    return change


def test_maps_in_memory(kenyon, quantised) -> None:
    """What compile and inspect say of a network whose maps do not fit."""
    net = quantised(larger([3, 20, 20]))
    result = kenyon("compile", net, "-o", "net.img", "-c", "mars-tiny")
    image = compile_network(network_file.load(net), TINY)
    assert len(image.segments) > 1
    line = (
        f"maps that do not fit lie in memory: {len(image.segments)} segments, "
        f"{image.bytes_written:,} bytes written and {image.bytes_read:,} read per frame, "
        f"{image.scratch_bytes:,} bytes behind SCRATCH_BASE\n"
    )
    assert result.stdout.endswith(line)
    values = json.loads(kenyon("compile", net, "-o", "net.img", "-c", "mars-tiny", "--json").stdout)
    assert values["segments"] == len(image.segments)
    assert values["bytes_written"] == image.bytes_written > 0
    assert line.split(":", maxsplit=1)[0] in kenyon("inspect", "net.img").stdout
    about = json.loads(kenyon("inspect", "net.img", "--json").stdout)
    moves = [one["move"] for one in about["passes"]]
    assert moves.count("store") == sum(one.descriptor.is_store for one in image.passes) > 0
    assert about["output_stored"] == image.contents.stored


def test_network_too_large(kenyon, quantised) -> None:
    result = kenyon("compile", quantised(larger([3, 9, 250])), "-o", "net.img", "-c", "mars-tiny")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: layer b must have rows that fit, one of its result ")
    assert not Path("net.img").exists()


def test_inspect(kenyon, quantised) -> None:
    kenyon("compile", quantised(), "-o", "net.img", "-c", "mars-tiny")
    result = kenyon("inspect", "net.img")
    assert result.exit_code == 0
    for text in (
        *("configuration mars-tiny", "network small: 3x6x5 u4 to 4x1x1 u4", "index bits"),
        "(packed)",
    ):
        assert text in result.stdout
    row = next(line for line in result.stdout.splitlines() if line.startswith(" b "))
    # Two blocks of kernels, each with two channel blocks of 3x3; the weights of one set are all 0.
    assert row.split() == ["b", "3x3", "1x1x6", "35", "35/36", "35", "17x3x2", "u4", "40", "0"]


def test_inspect_json(kenyon, quantised) -> None:
    kenyon("compile", quantised(), "-o", "net.img", "-c", "mars-tiny")
    values = json.loads(kenyon("inspect", "net.img", "--json").stdout)
    stored = values["weight_bits"] + values["index_bits"] + values["table_bits"]
    assert stored == 512 * values["lines"]
    assert values["index_overhead"] == values["index_bits"] / values["weight_bits"]
    # Three columns of three channels, one after the other, make nine of a word's 16 channels.
    packing = values["packing"]
    assert (packing["rows"], packing["cols"], packing["n_rows"], packing["n_cols"]) == (1, 3, 8, 5)
    first, second, third = values["passes"]
    assert first == {
        "layers": ["a"],
        "source": "input",
        "copies": False,
        "partial": False,
        "kernel": [3, 1],
        "stride": [1, 1],
        "dilation": [1, 3],
        "first_row": 0,
        "padding_top": 0,
        "padding_left": 0,
        "maximum": False,
        "lookup": False,
        "stored_weight_bits": 4,
        "split": 1,
        "teams": 1,
        "rows_per_team": 6,
        "kernel_blocks": 2,
        "entries": 6,
        "sets_kept": 6,
        "sets_total": 6,
        "weight_bits": 6 * 1024,
        "index_bits": 512,
        "table_bits": 512 * (2 + 2 * 2),
        "output": "17x6x5 u4",
        "source_address": 0,
        "skip_address": None,
        "output_address": first["output_address"],
        "move": "",
        "memory_word": None,
    }
    assert second["layers"] == ["b", "pool"]
    assert second["source_address"] == second["skip_address"] == first["output_address"]
    assert third["output_address"] == values["output_address"]


def test_inspect_has_no_output(kenyon, quantised) -> None:
    kenyon("compile", quantised(), "-o", "net.img")
    result = kenyon("inspect", "net.img", "-o", "net.json")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: --output must be left out: images of MARS hold no network file\n"
    )


def test_damaged_images(kenyon, quantised) -> None:
    kenyon("compile", quantised(), "-o", "net.img", "-c", "mars-tiny")
    data = Path("net.img").read_bytes()
    path = Path("damaged.img")
    for k in (*range(24), *range(24, len(data), len(data) // 100)):
        path.write_bytes(data[:k])
        cut = kenyon("inspect", path)
        flipped = bytearray(data)
        flipped[k] ^= 1 << k % 8
        path.write_bytes(flipped)
        for result in (cut, kenyon("inspect", path)):
            assert result.exit_code == 2
            assert result.stdout == ""
            assert result.stderr.startswith("error: damaged.img: image ")


@pytest.mark.parametrize("data", [b"", b"KNYX", b"PK\3\4"])
def test_no_image(kenyon, data: bytes) -> None:
    Path("x.img").write_bytes(data)
    result = kenyon("inspect", "x.img")
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: x.img: image must begin with KNYI (NPU) or KMRS (MARS), not {data!r}\n"
    )
