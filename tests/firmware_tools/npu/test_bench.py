"""`kenyon bench`: what it reports; nothing is measured here."""

import json

import pytest

from firmware_tools.npu.figures import Figure


def give(monkeypatch: pytest.MonkeyPatch, *figures: Figure) -> None:
    """Let these be the figures."""
    monkeypatch.setattr(
        "firmware_tools.npu.figures.measurements", lambda *, quick: {str(quick): lambda: [*figures]}
    )


@pytest.mark.parametrize(
    ("measured", "at_least", "good"),
    [(2.0, True, True), (1.9, True, False), (2.0, False, True), (2.1, False, False)],
)
def test_bounds(measured: float, at_least: bool, good: bool) -> None:
    assert Figure("f", "s", measured, 2, at_least).good is good


def test_json(kenyon, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, Figure("speed", "G/s", 3.5, 2), Figure("time", "s", 3, 2, at_least=False))
    result = kenyon("bench", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "figures": [
            {"name": "speed", "unit": "G/s", "measured": 3.5, "at_least": 2, "good": True},
            {"name": "time", "unit": "s", "measured": 3, "at_most": 2, "good": False},
        ]
    }


def test_a_mistake_is_a_failure(kenyon, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, Figure("vectors equal", "of 3", 2, 3, exact=True))
    assert kenyon("bench", "--quick").exit_code == 1


def test_people_read_a_table(kenyon, monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, Figure("speed", "G/s", 3.456789, 2))
    result = kenyon("bench", "--quick")
    assert result.exit_code == 0
    assert "3.457 G/s" in result.stdout
    assert ">= 2" in result.stdout
