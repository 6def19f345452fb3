"""docs/training.md, run as it stands: from a user's module to frames per second."""

import re
import shlex
from pathlib import Path

import numpy as np
import torch

PAGE = Path(__file__).parents[3] / "docs" / "training.md"
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def test_own_network(kenyon, capsys) -> None:
    """All blocks of its first section, in their order."""
    section = PAGE.read_text().split("\n## ")[1]
    names: dict[str, object] = {}
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
    assert set(outputs) == {"infer", "compare", "bench"}
    assert "reference, model and RTL of mars-tiny agree on mine: 3 images" in outputs["compare"]
    assert "frames/s" in outputs["bench"]
    assert float(capsys.readouterr().out.split()[-1]) > 0.85
    assert np.load("results.npy").shape == (360, 10, 1, 1)
