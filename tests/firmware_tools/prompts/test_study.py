"""`kenyon bench prompts` of two tasks."""

import json

import pytest

from firmware_tools.prompts import study, tasks


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "NAMES", tasks.NAMES[3:5])


def test_all_methods_of_all_tasks(kenyon) -> None:
    result = kenyon("bench", "prompts", "--quick", "--seeds", "1", "-j", "1", "--json")
    assert result.exit_code == 0, result.stderr
    values = json.loads(result.stdout)
    assert [run["task"] for run in values["runs"]] == ["parity", "photograph"]
    for run in values["runs"]:
        assert set(run["accuracy"]) == set(study.METHODS)
        assert sum(run["kept"]) == round(study.SHARE * study.N_PROMPTS)
    again = kenyon("bench", "prompts", "--quick", "--seeds", "1", "-j", "2", "--json")
    assert again.stdout == result.stdout
