"""`kenyon compare` for quantised networks: what it finds, and how it says so."""

import json
from dataclasses import replace

import numpy as np
import pytest

from model.mars import reference
from tb.mars.cosim import FrameTrace
from tb.mars.records import Times


def test_rtl(kenyon, quantised, pictures) -> None:
    net = quantised()
    result = kenyon("compare", net, "--input", pictures, "--images", "2", "-c", "mars-tiny")
    assert result.exit_code == 0
    first, second, third = result.stdout.splitlines()
    assert first == "reference, model and RTL of mars-tiny agree on small: 2 images"
    assert second.startswith("compared: 2,048 results of layers (reference, model), ")
    assert "and the clocks of 8 passes, " in second
    assert third.startswith("RTL and model: ")


@pytest.mark.usefixtures("stand_in")
def test_random_input(kenyon, quantised) -> None:
    result = kenyon("compare", quantised(), "--seed", "4", "--images", "3", "--json")
    values = json.loads(result.stdout)
    assert values.pop("seconds") > 0
    assert values["values"] > 0
    assert values["clocks"] > 0
    assert {name: values[name] for name in ("configuration", "input", "seed", "equal")} == {
        "configuration": "mars",
        "input": None,
        "seed": 4,
        "equal": True,
    }
    assert values["images"] == 3
    assert values["passes"] == 12


def changed(trace: FrameTrace, number: int, **fields: object) -> FrameTrace:
    """The frame with something else in a pass."""
    passes = list(trace.passes)
    passes[number] = replace(passes[number], **fields)
    return replace(trace, passes=passes)


def wrong_value(trace: FrameTrace) -> FrameTrace:
    values = trace.passes[1].values.copy()
    values[7, 2] ^= 1
    return changed(trace, 1, values=values)


def wrong_filling(trace: FrameTrace) -> FrameTrace:
    """In a lane that is no channel of the network."""
    values = trace.passes[3].values.copy()
    values[0, 15] = 9
    return changed(trace, 3, values=values)


def missing_pixel(trace: FrameTrace) -> FrameTrace:
    return changed(trace, 2, values=trace.passes[2].values[:-1])


def wrong_write(name: str, number: int, at: int, bit: int):
    def change(trace: FrameTrace) -> FrameTrace:
        writes = trace.passes[number].writes
        array = getattr(writes, name).copy()
        array[at] ^= array.dtype.type(1 << bit)
        return changed(trace, number, writes=replace(writes, **{name: array}))

    return change


def late(trace: FrameTrace) -> FrameTrace:
    for k in (2, 3):
        trace = changed(trace, k, end=trace.passes[k].end + 2)
    return trace


def wrong_register(name: str):
    def change(trace: FrameTrace) -> FrameTrace:
        result = replace(trace.result, **{name: getattr(trace.result, name) + 1})
        return replace(trace, result=result)

    return change


def wrong_result(trace: FrameTrace) -> FrameTrace:
    output = trace.output.copy()
    output[3, 0, 0] ^= 2
    return replace(trace, output=output)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (wrong_value, "layer 'a', channel 2, row 1, column 2: value must be"),
        (
            wrong_filling,
            "pass 'fc', pixel 0, lane 15: drained value must be 0 (model), not 9 (rtl)",
        ),
        (missing_pixel, "pass 'b', 'pool': number of pixels must be 48 (model), not 47 (rtl)"),
        (wrong_write("word", 2, 4, 0), "layer 'pool', channel 0, row 2, column 0: value must be"),
        (wrong_write("word", 0, 3, 62), "input, write 3: stored word must be"),
        (wrong_write("offset", 1, 5, 2), "pass 'a', write 5: offset must be"),
        (wrong_write("row", 1, 0, 1), "pass 'a', write 0: row must be 0 (model), not 2 (rtl)"),
        (wrong_write("halves", 3, 0, 1), "pass 'fc', write 0: halves must be 3 (model), not 1"),
        (late, "pass 'b', 'pool': clocks must be"),
        (wrong_register("frame_clocks"), "frame: FRAME_CLOCKS must be"),
        (wrong_register("weight_stalls"), "frame: WEIGHT_STALLS must be"),
        (wrong_result, "layer 'fc', channel 3, row 0, column 0: value must be"),
    ],
)
def test_differences(kenyon, quantised, pictures, stand_in, change, text: str) -> None:
    stand_in.append(change)
    result = kenyon("compare", quantised(), "--input", pictures, "-c", "mars-tiny")
    assert result.exit_code == 1
    first, second = result.stdout.splitlines()
    assert f" of mars-tiny differ: image 0, {text}" in first
    net = pictures.parent / "net.npz"
    again = f"kenyon compare {net} -c mars-tiny --input {pictures} --images 1"
    assert second == f"again, with waves: {again} --waves difference.fst"


def timed(trace: FrameTrace) -> FrameTrace:
    """Pass k ends at 10000 * k; before, its values come every 10 ns and its writes every 20."""
    for k, one in enumerate(trace.passes):
        steps = (np.arange(len(part)) for part in (one.values, one.writes.word))
        first, end = 10_000 * k - 9_000, 10_000 * k
        values, writes = (first + gap * n for gap, n in zip((10, 20), steps, strict=True))
        times = Times(values, writes, np.zeros(0, np.int64), end)
        trace = changed(trace, k, times=times)
    return trace


def lone_value(trace: FrameTrace) -> FrameTrace:
    """One value more than there should be."""
    values = trace.passes[2].values
    return changed(trace, 2, values=np.concatenate([values, values[:1]]))


@pytest.mark.parametrize(
    ("change", "ns"),
    [
        (wrong_value, 1_070),
        (wrong_filling, 21_000),
        (missing_pixel, 20_000),
        (lone_value, 11_480),
        (wrong_write("word", 2, 4, 0), 11_080),
        (wrong_write("word", 0, 3, 62), -8_940),
        (wrong_write("offset", 1, 5, 2), 1_100),
        (late, 20_000),
        (wrong_register("weight_stalls"), 30_000),
    ],
)
def test_when_it_differs(kenyon, quantised, pictures, stand_in, change, ns: int) -> None:
    """Views open there: the first value that differs, the end of what is too short or late."""
    changes = [change, timed] if change is lone_value else [timed, change]
    stand_in += changes
    result = kenyon("compare", quantised(), "--input", pictures, "-c", "mars-tiny", "--json")
    assert json.loads(result.stdout)["difference"]["ns"] == ns


@pytest.mark.usefixtures("stand_in")
def test_reference_against_model(kenyon, quantised, monkeypatch: pytest.MonkeyPatch) -> None:
    run = reference.run

    def wrong(*arguments):
        outputs = run(*arguments)
        outputs["b"] = np.bitwise_xor(outputs["b"], 4)
        return outputs

    monkeypatch.setattr(reference, "run", wrong)
    net = quantised()
    result = kenyon("compare", net, "--json")
    assert result.exit_code == 1
    values = json.loads(result.stdout)
    assert values["image"] == 0
    assert values["command"] == f"kenyon compare {net} -c mars --seed 0 --images 1"
    difference = values["difference"]
    assert difference["expected"] == difference["actual"] ^ 4
    assert {**difference, "expected": 0, "actual": 0} == {
        "expected_by": "reference",
        "actual_by": "model",
        "place": "layer 'b'",
        "what": "value",
        "expected": 0,
        "actual": 0,
        "position": {"channel": 0, "row": 0, "column": 0},
        "ns": 0,
    }


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--pause", "0.5"), "--pause must be left out: it is not for NET.npz"),
        (("--waves", "x.ghw"), "x.ghw: wave file must end in .fst or .vcd"),
        (
            ("-c", "odin"),
            "configuration must be one of mars-tiny, mars, mars-wide for MARS, not odin",
        ),
    ],
)
def test_options_of_the_npu(kenyon, quantised, options: tuple[str, ...], error: str) -> None:
    result = kenyon("compare", quantised(), *options)
    assert result.exit_code == 2
    assert result.stderr == f"error: {error}\n"


@pytest.mark.parametrize("options", [("--input", "x.npy"), ("--images", "2")])
def test_options_of_mars(kenyon, tonic, options: tuple[str, ...]) -> None:
    result = kenyon("compare", tonic(), *options)
    assert result.exit_code == 2
    assert result.stderr == f"error: {options[0]} must be left out: it is not for NPU networks\n"
