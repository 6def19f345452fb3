import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from firmware_tools.jobs.local import Local
from firmware_tools.search import assignment
from firmware_tools.search.devices import Search, Settings, options_of, write
from firmware_tools.search.errors import SearchError
from firmware_tools.search.measuring import Measurement, model_of, noise, task
from firmware_tools.search.results import as_json, sensitivity
from model.mars import network_file, reference
from model.mars.devices.device import DeviceError, parse
from model.mars.devices.execution import NetworkArrays
from model.mars.zoo import ZOO

NOISY = "fefet:program_noise=0.1"


@pytest.fixture(scope="module")
def lenet(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("search") / "lenet5.npz"
    network_file.dump(ZOO["lenet5"].make(), path)
    return path


@pytest.fixture
def settings(lenet) -> Settings:
    options = options_of(("sram", NOISY), (64,), ())
    return Settings(task(lenet, None, None, 24, 0), options, allowed=35, trials=1, measurements=14)


def test_two_phases_find_what_measuring_everything_finds(settings):
    truth = Search(replace(settings, measurements=32), Local(1)).run()
    found = Search(settings, Local(1)).run()
    assert len(truth.measured) == 2**5
    assert len(found.measured) <= 14
    assert found.best == truth.best
    assert truth.best.cost == min(o.cost for o in truth.measured.values() if o.drop <= 35)
    assert len(set(truth.best.choice)) == 2  # a hybrid
    for one in found.front():
        assert truth.measured[one.choice] == one


def test_same_results_on_any_number_of_workers(settings, tmp_path):
    few = replace(settings, measurements=4)
    texts = []
    for n in (1, 3):
        found = Search(few, Local(n)).run()
        folder = tmp_path / str(n)
        folder.mkdir()
        paths = write(found, few, folder)
        texts.append([path.read_bytes() for path in paths])
        texts[-1].append(json.dumps(as_json(found, few)).encode())
    assert texts[0] == texts[1]


def test_measurement_is_what_inference_computes(settings, lenet):
    names = [layer.name for layer in network_file.load(lenet).layers if hasattr(layer, "weight")]
    job = Measurement(settings.task, ((names[1], NOISY), (names[3], "pcm")), 3, 1, "selection")
    network = model_of(settings.task).network
    rng = np.random.default_rng((0, 0))
    inputs = rng.integers(0, network.input_type.high + 1, (24, 1, 28, 28))
    devices = {names[1]: parse(NOISY), names[3]: parse("pcm")}
    seen = NetworkArrays(network, devices, seed=3, trial=1).run(inputs)[network.output]
    exact = reference.run(network, inputs)[network.output]
    result = job.run()
    assert result["noise"] == noise(exact, seen) > 0
    changed = exact.reshape(24, -1).argmax(1) != seen.reshape(24, -1).argmax(1)
    assert result["drop"] == 100 * changed.mean()
    assert replace(job, devices=()).run() == {"noise": 0.0, "drop": 0.0}


def test_layers_without_a_device_are_exact(lenet):
    network = network_file.load(lenet)
    inputs = np.random.default_rng(1).integers(0, 16, (2, 1, 28, 28))
    exact = reference.run(network, inputs)
    mixed = NetworkArrays(network, {network.layers[2].name: parse(NOISY)}).run(inputs)
    before = network.layers[0].name
    assert np.array_equal(mixed[before], exact[before])
    assert not np.array_equal(mixed[network.output], exact[network.output])


def test_noise_of_a_gain_is_none():
    exact = np.random.default_rng(0).integers(-50, 50, (30, 10, 1, 1))
    assert noise(exact, 3 * exact) < 1e-12
    assert noise(exact, exact) == 0
    wrong = np.random.default_rng(1).integers(-50, 50, (30, 10, 1, 1))
    assert noise(exact, wrong) > 0.9
    assert noise(exact, 0 * exact) == 1


def test_ctrl_c_leaves_what_was_found(settings):
    class Interrupted(Local):
        n = 0

        def map(self, jobs):
            self.n += 1
            if self.n > 3:
                raise KeyboardInterrupt
            return super().map(jobs)

    search = Search(settings, Interrupted(1))
    with pytest.raises(KeyboardInterrupt):
        search.run()
    values = as_json(search.found, settings)
    assert values["networks_measured"] == 3
    assert len(values["front"]) >= 2
    assert values["best"] is not None
    assert as_json(Search(settings, Local(1)).found, settings)["front"] == []


def test_gain_at_equal_noise_is_against_the_best_single_device(settings):
    found = Search(replace(settings, measurements=2), Local(1)).run()
    rows = as_json(found, settings)["at_equal_noise"]
    assert [row["noise_of"].split(":")[0] for row in rows] == ["sram", "fefet"]
    alone = found.space.cost(found.space.homogeneous())
    assert rows[0]["noise"] == 0
    assert rows[0]["gain"] == 1
    best = found.archive.cost[found.archive.noise <= rows[1]["noise"]].min()
    assert rows[1]["gain"] == pytest.approx(alone.min() / best)


def test_sensitivity_varies_every_constant_that_matters(settings):
    found = Search(settings, Local(1)).run()
    rows = sensitivity(found, settings)
    names = {row["constant"] for row in rows}
    assert {"adc.energy_factor", "cells.fefet.area", "digital.access"} <= names
    assert not any("pcm" in name for name in names)
    assert rows[0]["constant"] == "as stated"
    assert rows[0]["gain"] == pytest.approx(as_json(found, settings)["gain"])


def test_files_are_read_as_written_or_refused(tmp_path, lenet):
    network = network_file.load(lenet)
    names = [layer.name for layer in network.layers if hasattr(layer, "weight")]
    path = tmp_path / "d.json"
    assignment.dump("lenet5", dict.fromkeys(names, NOISY), path)
    devices = assignment.load(path)
    assert devices == dict.fromkeys(names, parse(NOISY))
    assignment.check("d.json", devices, network)
    with pytest.raises(
        SearchError, match=rf"layer {names[0]} of {network.name} must have a device"
    ):
        assignment.check("d.json", {k: v for k, v in devices.items() if k != names[0]}, network)
    with pytest.raises(SearchError, match=r"layer must be one of .*, not other"):
        assignment.check("d.json", {**devices, "other": parse("pcm")}, network)
    for text, message in (
        ("{", "devices must be JSON"),
        ("[]", "format must be kenyon-devices-1"),
        ('{"format": "kenyon-devices-1", "devices": {"a": 1}}', "device's name for each layer"),
        ('{"format": "kenyon-devices-1", "devices": {"a": "x"}}', "device must be one of"),
    ):
        path.write_text(text)
        with pytest.raises(SearchError, match=message):
            assignment.load(path)


def test_options_are_devices_times_arrays_times_converters():
    found = options_of(("sram", "pcm:age=60", "rram"), (64, 128), (6, 8))
    assert len(found) == 1 + 4 + 4
    assert found[1].text == "pcm:age=60,rows=64,columns=64,adc_bits=6"
    assert found[-1].device.rows == 128
    with pytest.raises(DeviceError, match=r"adc_bits must be 2..16, not 0"):
        options_of(("pcm",), (64,), (0,))
    with pytest.raises(DeviceError, match=r"rows must be 1..512, not 1024"):
        options_of(("pcm",), (1024,), ())
