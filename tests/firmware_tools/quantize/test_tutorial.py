"""docs/training.md, run as it stands: from a user's module to frames per second."""

import re
import shlex
from pathlib import Path

import numpy as np
import torch

PAGE = Path(__file__).parents[3] / "docs" / "training.md"
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def run_section(number, kenyon, names):
    """All blocks of a section, in their order; what each verb printed."""
    section = PAGE.read_text().split("\n## ")[number]
    outputs = {}
    with torch.random.fork_rng(devices=[]):
        for language, text in BLOCK.findall(section):
            if language == "python":
                exec(compile(text, PAGE.name, "exec"), names)
                continue
            for line in text.splitlines():
                program, verb, *arguments = shlex.split(line)
                assert program == "kenyon"
                result = kenyon(verb, *arguments)
                assert result.exit_code == 0, result.output
                outputs[verb] = result.stdout
    return outputs


def test_own_network(kenyon, capsys) -> None:
    names: dict[str, object] = {}
    outputs = run_section(1, kenyon, names)
    assert set(outputs) == {"infer", "compare", "bench"}
    assert "reference, model and RTL of mars-tiny agree on mine: 3 images" in outputs["compare"]
    assert "frames/s" in outputs["bench"]
    assert float(capsys.readouterr().out.split()[-1]) > 0.85
    assert np.load("results.npy").shape == (360, 10, 1, 1)
    # The second section goes on with the first one's data.
    outputs = run_section(2, kenyon, names)
    assert "time steps" in outputs["infer"]
    assert float(capsys.readouterr().out.split()[-1]) > 0.8
    # So does the third.
    assert set(run_section(3, kenyon, names)) == {"infer"}
