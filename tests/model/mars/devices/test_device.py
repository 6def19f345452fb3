"""Devices: presets, files, and what is refused."""

from pathlib import Path

import pytest

from model.mars.devices import faults
from model.mars.devices.device import COSTS, LIMITS, DeviceError, parse, presets


def test_presets() -> None:
    assert list(presets()) == ["sram", "sram-analog", "pcm", "fefet", "rram"]


@pytest.mark.parametrize("name", presets())
def test_every_number_has_a_source(name: str) -> None:
    for key, known in presets()[name].known.items():
        assert known.source, f"{name}.{key} must have a source"


def test_settings() -> None:
    device = parse("rram:rows=128,columns=128,wire=10,wires=exact,g_max=20.5")
    assert (device.rows, device.columns, device.wire, device.g_max) == (128, 128, 10.0, 20.5)
    assert device.wires == "exact"


def test_own_device(tmp_path: Path) -> None:
    """The file that docs/devices.md shows."""
    page = (Path(__file__).parents[4] / "docs" / "devices.md").read_text()
    text = page.split('```toml title="mine.toml"\n')[1].split("```")[0]
    assert len(text.splitlines()) <= 60
    path = tmp_path / "mine.toml"
    path.write_text(text)
    device = parse(f"{path}:age=5")
    assert (device.name, device.g_max, device.on_off, device.age) == ("mine", 30.0, 20.0, 5.0)
    assert device.costs["area"] == 60
    assert set(device.costs) == set(COSTS)
    with pytest.raises(DeviceError, match=r"device mine: g_max must be 10..60, not 6"):
        parse(f"{path}:g_max=6")


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ("area = 1", "costs must have area, read_volts, .*, perhaps pulses, not area"),
        ("volts = 1", "costs must have area, .*, not volts"),
        (
            "area = 0\nread_volts = 1\nread_time = 1\nwrite_energy = 1\nwrite_time = 1",
            "costs.area must be above 0, not 0",
        ),
    ],
)
def test_bad_costs(tmp_path: Path, costs: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"[costs]\n{costs}\n")
    with pytest.raises(DeviceError, match=f"device mine: {message}"):
        parse(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mram", "device must be one of sram, sram-analog, pcm, fefet, rram, bits, or a file"),
        ("pcm:adc_bits=0", "device pcm: adc_bits must be 2..16, not 0"),
        ("pcm:adc_bits=4.5", "device pcm: adc_bits must be an integer, not '4.5'"),
        ("pcm:age=old", "device pcm: age must be a number, not 'old'"),
        ("pcm:age=-1", "device pcm: age must be 0..1e.10, not -1"),
        ("pcm:age=nan", "device pcm: age must be 0..1e.10, not nan"),
        ("pcm:g_max=100", "device pcm: g_max must be 5..50, not 100"),
        ("pcm:ages=1", "device pcm: key must be one of g_max, on_off"),
        ("pcm:age", "device pcm: settings must be key=value,..., not 'age'"),
        ("rram:rows=512,columns=512", "must be at most 65536, the cells of a macro, not 512.512"),
        ("rram:wire=0", "driver, wire and sense must all be 0 or all at least 0.01 Ohm"),
        ("rram:wires=quick", "device rram: wires must be exact or fast, not 'quick'"),
        ("pcm:stuck_on=0.6,stuck_off=0.6", "stuck_on and stuck_off must be at most 1 together"),
    ],
)
def test_bad_devices(text: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("g_max = [1]", "g_max must be a number"),
        ("gmax = 1", "key must be one of .*g_max"),
        ("g_max = { source = 'x' }", "g_max must be a value or have value, source and valid"),
        ("g_max = { value = 1, valid = 3 }", "g_max.valid must be"),
        ("program_fit = 3", "program_fit must be a list of numbers"),
        ("drift_mean = [1.0]", "drift_mean must have 4 numbers, not 1"),
        ("g_max = ", "device must be TOML"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(DeviceError, match=message):
        parse(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bits:flips=2", "device bits: flips must be 0..1, not 2"),
        ("bits:flips=x", "device bits: flips must be a number, not 'x'"),
        ("bits:rate=1", "device bits: key must be one of flips, stuck0, stuck1, memory, not"),
        ("bits:memory=tape", "device bits: memory must be one of weights, multipliers, tables"),
        ("bits:stuck0=0.6,stuck1=0.6", "stuck0 and stuck1 must be at most 1 together, not 1.2"),
    ],
)
def test_bad_faults(text: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        faults.parse(text)


def test_limits_hold_the_defaults() -> None:
    device = presets()["sram"].without_faults()
    for key, (low, high) in LIMITS.items():
        assert low <= getattr(device, key) <= high
