"""The documentation's example of a quantised network is one."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

DOCS = Path(__file__).parents[2] / "docs"


def test_quantised_network(kenyon) -> None:
    text = (DOCS / "quantised-network.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    subprocess.run([sys.executable, "-c", program], check=True)
    result = kenyon("infer", "example.npz", "--input", "images.npy", "--output", "y.npy")
    assert result.exit_code == 0
    results = np.load("y.npy")
    assert results.shape == (5, 10, 1, 1)
    assert len(np.unique(results)) > 10
