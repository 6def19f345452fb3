"""`kenyon run`."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_tools.npu import trace_file
from firmware_tools.npu.backends import MAX_CHUNK_STEPS

MAIN = "from firmware_tools.cli import main; main()"
INTERRUPT_IN_THIRD_CHUNK = """
import os, signal
from firmware_tools.npu.run_report import RunReport

add = RunReport.add

def add_and_interrupt(report, trace):
    if trace.first_step == 2 * len(trace):
        os.kill(os.getpid(), signal.SIGINT)
    add(report, trace)

RunReport.add = add_and_interrupt
"""
FIRST_LINES = [138, 146, 153, 159, 165, 170, 176, 183, 190, 198, 207, 217, 229, 242]


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def arrays_of(path: str) -> dict[str, Any]:
    with np.load(path) as archive:
        return dict(archive)


@pytest.mark.parametrize("backend", ["fast", "model"])
def test_json(kenyon, tonic, backend: str) -> None:
    result = kenyon("run", tonic(), "--backend", backend, "--json")
    assert result.exit_code == 0
    values = json.loads(result.stdout)
    assert values.pop("wall_seconds") > 0
    assert values == {
        "network": "tonic",
        "backend": backend,
        "configuration": "tiny",
        "steps": 400,
        "neurons": 1,
        "populations": [1],
        "spikes": [26],
        "synaptic_operations": 26,
        "effective_synaptic_operations": 0,
        "clocks": {"total": 400 * 10, "min": 10, "max": 10},
        "saturated": [False],
    }


def test_json_counts_rows_and_connections(kenyon, pair) -> None:
    """Every figure of a small network, counted by hand from its spikes."""
    result = kenyon("run", pair, "-c", "poppins", "--trace", "pair.npz", "--json")
    values = json.loads(result.stdout)
    trace = arrays_of("pair.npz")
    spikes = trace["spikes"].sum(axis=0)
    delivered = trace["spikes"][:-1].sum(axis=0)
    assert values["spikes"] == spikes.tolist()
    assert all(delivered > 0)
    rows = delivered[:2].sum() + 2, delivered.sum() + 1
    assert values["synaptic_operations"] == 2 * sum(rows)
    assert values["effective_synaptic_operations"] == 2 * delivered[0] + 2 * delivered[1] + 3
    assert values["clocks"]["total"] == trace["clocks"].sum()


def test_people_read_the_figures(kenyon, tonic) -> None:
    result = kenyon("run", tonic())
    assert result.exit_code == 0
    assert "tonic on tiny, backend fast: 400 time steps" in result.stdout
    assert "clocks: 4,000 (10..10 per time step)" in result.stdout
    assert result.stderr == ""


def test_network_that_fits_no_chip(kenyon, tonic) -> None:
    neuron = {"rest": 128, "threshold": 200, "reset": 128, "a": 1, "b": 1}
    path = tonic(populations=[300], neurons=[neuron] * 300)
    result = kenyon("run", path, "--json")
    assert result.exit_code == 0
    values = json.loads(result.stdout)
    assert values["configuration"] is None
    assert values["clocks"] is None
    assert values["spikes"] == [26] + [0] * 299


def test_network_that_fits_no_chip_cannot_run_on_one(kenyon, tonic) -> None:
    neuron = {"rest": 128, "threshold": 200, "reset": 128, "a": 1, "b": 1}
    result = kenyon("run", tonic(populations=[300], neurons=[neuron] * 300), "--backend", "rtl")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: network fits no configuration: "
        "population 0 has 300 neurons, tiny has room for 16: 284 too many; "
        "population 0 has 300 neurons, poppins has room for 128: 172 too many; "
        "population 0 has 300 neurons, odin has room for 256: 44 too many; "
        "population 0 has 300 neurons, large has room for 256: 44 too many\n"
    )


@pytest.mark.parametrize("backend", ["fast", "model"])
def test_csv(kenyon, tonic, backend: str) -> None:
    path = tonic(session=[{"steps": 17, "bias": [[0, 10]]}])
    result = kenyon("run", path, "--backend", backend, "--trace", "run.csv")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "wrote run.csv"
    assert lines_of(Path("run.csv")) == [
        "step,v0",
        *(f"{step},{v}" for step, v in enumerate(FIRST_LINES)),
        "14,128*",
        "15,138",
        "16,146",
    ]


def test_csv_of_several_neurons(kenyon, pair) -> None:
    kenyon("run", pair, "--trace", "run.csv")
    header, *lines = lines_of(Path("run.csv"))
    assert header == "step,v0,v1,v2,v3"
    assert len(lines) == 50
    assert lines[0].startswith("0,138,128,128,")


def test_npz(kenyon, pair) -> None:
    kenyon("run", pair, "-c", "tiny", "--trace", "run.npz")
    trace = arrays_of("run.npz")
    types = {name: (trace[name].dtype.str, trace[name].shape) for name in trace}
    assert types == {
        "v": ("|u1", (50, 4)),
        "spikes": ("|b1", (50, 4)),
        "i_syn": ("<i2", (50, 4)),
        "noise": ("|i1", (50, 4)),
        "rows": ("<i4", (50, 2)),
        "saturated": ("|b1", (50, 2)),
        "clocks": ("<i8", (50,)),
        "first_step": ("<i8", ()),
        "populations": ("<i8", (2,)),
        "events": ("<i8", (3, 2)),
        "name": ("<U4", ()),
        "configuration": ("<U4", ()),
    }
    assert trace["name"] == "pair"
    assert trace["configuration"] == "tiny"


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("none/run.csv", "none/run.csv: folder must exist: none"),
        ("run.txt", "run.txt: trace file must end in .csv or .npz"),
        ("folder.csv", "folder.csv: must be a file, not a folder"),
    ],
)
def test_trace_must_be_writable_before_anything_runs(
    kenyon, tonic, monkeypatch: pytest.MonkeyPatch, name: str, error: str
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("must not run")

    monkeypatch.setattr("firmware_tools.npu.backends.simulate", fail)
    Path("folder.csv").mkdir()
    result = kenyon("run", tonic(), "--trace", name)
    assert result.exit_code == 2
    assert result.stderr == f"error: {error}\n"


@pytest.mark.parametrize("backend", ["fast", "model"])
def test_interrupted_run_keeps_what_was_traced(tonic, backend: str) -> None:
    """Ctrl-C: exit code 130, and the message counts the time steps that are in the file."""
    path = tonic(session=[{"steps": 4_000_000_000, "bias": [[0, 10]]}])
    trace = Path("run.csv")
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "run", path, "--backend", backend, "--trace", trace],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not (trace.exists() and trace.stat().st_size > 1000):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate()
    steps = len(lines_of(trace)) - 1
    assert steps > 0
    assert stderr == (f"interrupted after {steps} of 4000000000 time steps; run.csv holds them\n")
    assert stdout == ""
    assert process.returncode == 130
    assert lines_of(trace)[-1].startswith(f"{steps - 1},")


@pytest.mark.parametrize("kind", ["csv", "npz"])
@pytest.mark.parametrize("backend", ["fast", "model"])
def test_interrupt_in_the_middle_of_a_chunk(tonic, kind: str, backend: str) -> None:
    """The chunk under way is finished and written."""
    path = tonic(session=[{"steps": 4_000_000_000, "bias": [[0, 10]]}])
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            INTERRUPT_IN_THIRD_CHUNK + MAIN,
            *("run", path, "--backend", backend, "--trace", f"run.{kind}"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    steps = 3 * MAX_CHUNK_STEPS
    assert done.stderr == (
        f"interrupted after {steps} of 4000000000 time steps; run.{kind} holds them\n"
    )
    assert done.returncode == 130
    assert len(trace_file.read(Path(f"run.{kind}")).v) == steps
    assert [p.name for p in sorted(Path().iterdir())] == [f"run.{kind}", "tonic.json"]


def test_interrupt_without_trace(tonic) -> None:
    path = tonic(session=[{"steps": 4_000_000_000}])
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPT_IN_THIRD_CHUNK + MAIN, "run", path],
        capture_output=True,
        text=True,
        check=False,
    )
    steps = 3 * MAX_CHUNK_STEPS
    assert done.stderr == f"interrupted after {steps} of 4000000000 time steps\n"
    assert done.returncode == 130


def test_wrong_bits(kenyon) -> None:
    """Another chip, other spikes."""
    path = Path(__file__).parents[3] / "examples" / "decision.json"
    plain = json.loads(kenyon("run", str(path), "--json").stdout)
    one, other = (
        json.loads(
            kenyon(
                *("run", str(path), "--device", "bits:flips=0.02", "--seed", seed, "--json")
            ).stdout
        )
        for seed in ("1", "2")
    )
    assert plain["spikes"] != one["spikes"] != other["spikes"]
    for options, message in (
        (("--device", "rram"), "--device must be bits here, not rram"),
        (("--device", "bits:memory=input"), "memory must be weights or parameters for populations"),
        (("--seed", "1"), "--seed must be left out: it is for --device"),
    ):
        result = kenyon("run", str(path), *options)
        assert result.exit_code == 2
        assert message in " ".join(result.output.split())
