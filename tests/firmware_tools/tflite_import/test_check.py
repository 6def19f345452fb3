"""Comparison with the reference kernels, where these are installed."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from firmware_tools.tflite_import import TfliteError, load
from firmware_tools.tflite_import.check import compare, run_reference_kernels

FOLDER = Path(__file__).parents[2] / "vectors" / "keras"


def inputs_of(name: str) -> np.ndarray:
    with np.load(FOLDER / f"{name}.npz") as file:
        return np.asarray(file["x"])


@pytest.mark.parametrize("name", ["mobile", "flat", "channels_first"])
def test_wide_multipliers_agree(name: str) -> None:
    path = FOLDER / f"{name}.tflite"
    agreement = compare(path, load(path, wide=True), inputs_of(name))
    assert (agreement.equal, agreement.top1_equal, agreement.largest) == (1, 1, 0)
    assert agreement.is_good


def test_a_difference_is_counted() -> None:
    """A model whose outputs are turned round."""
    path = FOLDER / "mobile.tflite"
    good = load(path, wide=True)
    turned = replace(good, from_network=lambda results: good.from_network(results)[:, ::-1])
    agreement = compare(path, turned, inputs_of("mobile"))
    assert (agreement.images, agreement.outputs) == (8, 80)
    assert agreement.top1_equal < 1
    assert agreement.largest > 1
    assert not agreement.is_good


def test_kernels_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(TfliteError, match="the package ai-edge-litert must be installed"):
        run_reference_kernels(FOLDER / "mobile.tflite", inputs_of("mobile"))
