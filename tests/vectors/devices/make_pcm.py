"""Writes pcm.json: what aihwkit's model of phase-change cells gives, to compare ours with.

Run in an environment of its own with aihwkit 1.1.0 (MIT) and torch: ``python make_pcm.py``.
aihwkit is no dependency of the project; nothing of its code is here.
"""

import json
from pathlib import Path

import numpy as np
import torch
from aihwkit.inference.noise.pcm import PCMLikeNoiseModel

N = 400_000
TARGETS = (0.25, 2.5, 12.5, 25.0)
"""uS."""
TIMES = (1.0, 100.0, 10_000.0, 1_000_000.0)
"""Seconds behind the reference, 20 s after programming."""


def statistics(values: torch.Tensor) -> dict[str, float]:
    """Mean, standard deviation and fourth central moment."""
    x = values.double().numpy()
    return {
        "mean": float(x.mean()),
        "sd": float(x.std()),
        "fourth": float(np.mean((x - x.mean()) ** 4)),
    }


def main() -> None:
    """Write the file."""
    torch.manual_seed(1)
    model = PCMLikeNoiseModel(g_max=25.0)
    points = []
    for target in TARGETS:
        programmed = model.apply_programming_noise_to_conductance(torch.full((N,), target))
        points.append({"target": target, "time": None, **statistics(programmed)})
        nu = model.generate_drift_coefficients(torch.full((N,), target))
        for time in TIMES:
            cells = model.apply_drift_noise_to_conductance(programmed, nu, time)
            points.append({"target": target, "time": time, **statistics(cells)})
    text = json.dumps({"draws": N, "points": points}, indent=1)
    Path(__file__).with_name("pcm.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
