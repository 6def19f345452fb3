"""`kenyon avoid`, as its user sees it."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from firmware_tools.avoid import MODES
from firmware_tools.avoid.clips import generate
from firmware_tools.avoid.decision import Decision
from firmware_tools.avoid.energy import CLOCK_MHZ, PJ_PER_MAC, PJ_PER_OPERATION, PJ_PER_UPDATE
from firmware_tools.avoid.report import FRAME_US, Judged, figures, lines

DOCS = Path(__file__).parents[3] / "docs"


def test_clips(kenyon) -> None:
    result = kenyon("avoid", "--clips", 8, "-c", "kenyon-tiny", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["clips"] == 8
    assert told["mode_accuracy"] >= 7 / 8
    assert np.sum(told["modes"]) == np.sum(told["directions"]) == 8
    assert told["latency_us"] < told["frame_us"]
    assert told["latency_us"] == told["clocks_max"] / told["clock_mhz"]
    assert told["perception_nj"] > told["populations_nj"] > 0


def test_flow_has_no_clocks(kenyon) -> None:
    result = kenyon("avoid", "--clips", 2, "--source", "flow", "--mode", "left", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["clocks_max"] is told["latency_us"] is told["perception_nj"] is None
    assert told["modes"][MODES.index("left")][MODES.index("left")] == 2


def test_tables(kenyon) -> None:
    text = kenyon("avoid", "--clips", 2, "-c", "kenyon-tiny", "--backend", "model").output
    for part in ("motion, clips", "what looms, clips", "of a video frame", "nJ a decision"):
        assert part in text


def test_worlds_and_films(kenyon) -> None:
    arguments = ("avoid", "--worlds", 1, "-c", "kenyon-tiny", "--seed", 3)
    result = kenyon(*arguments, "--film", "flight.gif", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["worlds"] == 1
    assert told["collisions"] >= 0
    with Image.open("flight.gif") as film:
        assert film.n_frames == 60
    assert "straight on" in kenyon(*arguments, "--film", "flight.png").output
    with Image.open("flight.png") as still:
        assert still.size[0] > 600


def test_own_pictures(kenyon) -> None:
    frames = next(generate(1, 1)).frames[:3]
    Path("seen").mkdir()
    for k, frame in enumerate(frames):
        cv2.imwrite(f"seen/{k}.png", frame)
    result = kenyon("avoid", "--input", "seen", "-c", "kenyon-tiny", "--json")
    told = json.loads(result.stdout)
    assert len(told["decisions"]) == 2
    assert told["decisions"][-1]["mode"] == MODES[0]
    assert "looms" in kenyon("avoid", "--input", "seen", "-c", "kenyon-tiny").output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--input", "nothing"), "nothing: no such file or folder"),
        (("--mode", "sideways"), "sideways"),
        (("--worlds", 1, "--input", "x"), "--input must be left out with --worlds"),
        (("--film", "x.gif"), "--film must be left out without --worlds"),
        (("--worlds", 1, "--film", "x.mp4"), "film must end in .gif or .png"),
        (("--source", "flow", "--backend", "rtl"), "--backend must be fast for --source flow"),
        (("--worlds", 1, "--backend", "model"), "--backend must be fast for --worlds"),
        (("-c", "poppins"), "configuration must have both halves, kenyon or kenyon-tiny, not"),
        (("--network", "none.npz"), "none.npz: no such file"),
        (("--source", "flow", "--network", "n.npz"), "--network must be left out with --source"),
    ],
)
def test_mistakes(kenyon, arguments, text) -> None:
    result = kenyon("avoid", *arguments)
    assert result.exit_code == 2
    assert text in " ".join(result.output.split())


def judged(mode_counts, cells, mode=2, direction=1) -> Judged:
    """A clip of a mode and a direction, and decisions with these spikes."""
    clip = next(generate(1, 0))
    clip = type(clip)(clip.frames, mode, direction, clip.cells)
    decisions = []
    for counts, cell in zip(mode_counts, cells, strict=True):
        cell_counts = np.zeros(13, np.int64)
        if cell is not None:
            cell_counts[cell] = 5
        decisions.append(
            Decision(np.zeros(21, np.int64), np.array(counts), cell_counts, None, 900, 98)
        )
    return Judged(clip, decisions)


def test_figures_by_hand() -> None:
    up, left = [5, 0, 0, 0, 0, 0, 0, 0], [0, 0, 4, 0, 0, 0, 0, 0]
    # Sums: up 5:0, left 4:5, 8:5; cell 1 is inner down, 12 the centre.
    one = judged([up, left, left], [12, 1, 1])
    assert (one.mode, one.mode_latency) == (2, 4)
    assert (one.direction, one.direction_latency) == (1, 1)
    # The first frame is no longer one of the last three.
    other = judged([up, up, left, left], [1, None, None, None])
    assert (other.mode, other.mode_latency) == (0, None)
    assert other.direction_latency is None
    third = judged([left] * 3, [1, None, None])
    assert (third.direction, third.direction_latency) == (1, 3 - 1)
    done = figures([one, other])
    assert done.mode_accuracy == done.direction_accuracy == 0.5
    assert done.modes[2, 2] == done.modes[2, 0] == 1
    assert done.directions[1, 1] == done.directions[1, 5] == 1
    assert done.frame_mode_accuracy == pytest.approx(4 / 7)
    assert done.last_direction_accuracy == 0.5
    assert figures([one, third]).direction_accuracy == 1
    assert figures([one, third]).last_direction_accuracy == 0.5
    assert (done.mode_latency, done.direction_lead) == (4, 1)
    assert done.clocks.tolist() == [1000] * 7
    said = " ".join("\n".join(lines(done, None)).split())
    assert "50.00% of 2 clips, 57.14% of single frames" in said
    assert "50.00% of 2 clips, 50.00% of last frames alone" in said
    us = 1000 / CLOCK_MHZ
    assert f"{us:.1f} us at {CLOCK_MHZ:g} MHz (180 nm), 1/{FRAME_US / us:,.0f} of" in said


def test_the_pages_example(capsys) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (DOCS / "avoid.md").read_text(), re.DOTALL)
    exec(compile(program, "avoid.md", "exec"), {})
    assert int(capsys.readouterr().out) >= 0


def test_energies_are_those_that_were_measured() -> None:
    text = (DOCS / "silicon.md").read_text()
    populations = (f"{PJ_PER_OPERATION} pJ", f"{PJ_PER_UPDATE:g} pJ", "| 215 |", "3,002 clocks")
    for figure in (*populations, f"**{PJ_PER_MAC} pJ**", f"**{CLOCK_MHZ:g} MHz**"):
        assert figure in text
