import json
from pathlib import Path

import numpy as np
import pytest

from model.mars import network_file
from model.mars.zoo import ZOO


@pytest.fixture
def lenet():
    network_file.dump(ZOO["lenet5"].make(), "lenet5.npz")
    return "lenet5.npz"


QUICK = ("--images", "4", "--chips", "1", "--measurements", "4", "-j", "1", "--seed", "5")


def test_search_writes_files_that_infer_and_bench_run(kenyon, lenet):
    options = (
        "--device",
        "sram",
        "--device",
        "fefet",
        "--accuracy-drop",
        "60",
        "--report",
        "page.html",
    )
    result = kenyon("search", "devices", lenet, *QUICK, *options, "-o", "found", "--json")
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert values["networks_measured"] == 4
    assert values["best"]["drop"] <= 60
    best = json.loads(Path("found/best.json").read_text())
    assert list(best["devices"].values()) == values["best"]["devices"]
    page = Path("page.html").read_text()
    assert "Constants" in page
    assert "adc.energy_factor" in page

    images = np.random.default_rng(0).integers(0, 16, (3, 1, 28, 28))
    np.save("x.npy", images)
    ran = kenyon("infer", lenet, "--input", "x.npy", "--device", "found/best.json", "--json")
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["device"]["name"] == "found/best.json"
    bench = kenyon("bench", "devices", "--network", lenet, "--device", "found/best.json", "--json")
    assert bench.exit_code == 0, bench.output
    total = json.loads(bench.stdout)["total"]
    assert total["with_converters"]["area_mm2"] == pytest.approx(values["best"]["area_mm2"])
    assert total["arrays_only"]["energy_uj"] == pytest.approx(
        values["best"]["energy_uj_arrays_only"]
    )


def test_bad_input_is_said_in_one_line(kenyon, lenet):
    np.save("x.npy", np.zeros((1, 1, 28, 28), int))
    np.save("x4.npy", np.zeros((4, 1, 28, 28), int))
    np.save("l.npy", np.zeros(3, int))
    for options, message in (
        (("--adc-bits", "0"), "adc_bits must be 2..16, not 0"),
        (("--adc-bits", "12"), "adc_bits must be 4..10 to have a price, not 12"),
        (("--arrays", "1024"), "rows must be 1..512, not 1024"),
        (("--arrays", "many"), "--arrays must be integers with commas between them, not many"),
        (("--device", "gold"), "device must be one of sram, sram-analog"),
        (("--device", "sram", "--device", "sram"), "a device is named twice"),
        (("--labels", "l.npy"), "--labels must be left out without --input"),
        (("--input", "x.npy"), "images must be at least 2"),
        (("--input", "x4.npy", "--labels", "l.npy"), "labels must be 4 integers"),
        (("--input", "none.npy"), "none.npy: must be a file"),
        (("--on", "nowhere"), "nowhere"),
        (("-o", "no/where/found"), "folder must exist"),
        (("-o", "x.npy"), "x.npy: must be a folder, not a file"),
        (("--device", "bits:flips=0.1"), "--device must be a device of arrays, not bits:flips=0.1"),
    ):
        result = kenyon("search", "devices", lenet, *options)
        assert result.exit_code == 2, (options, result.output)
        assert message in " ".join(result.output.split()), (options, result.output)
    result = kenyon("search", "devices", "none.npz")
    assert result.exit_code == 2
    assert "none.npz: must be a file" in result.output


def test_device_files_where_they_cannot_be(kenyon, lenet):
    names = [one.name for one in network_file.load(lenet).layers if hasattr(one, "weight")]
    content = {"format": "kenyon-devices-1", "devices": dict.fromkeys(names, "pcm")}
    Path("d.json").write_text(json.dumps(content))
    np.save("x.npy", np.zeros((1, 1, 28, 28), int))
    run = ("infer", lenet, "--input", "x.npy", "--device", "d.json")
    result = kenyon(*run, "--backend", "model", "-c", "mars-tiny")
    assert result.exit_code == 2
    assert "--backend must be reference with --device d.json, not model" in result.output
    Path("d.json").write_text(json.dumps(content | {"devices": {"other": "pcm"}}))
    result = kenyon(*run)
    assert result.exit_code == 2
    assert "layer must be one of" in result.output
