"""Results in files: whole or not at all, whoever is killed."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from firmware_tools.errors import UserError
from firmware_tools.jobs.store import Store

KEY = "0123456789abcdef"


def test_what_was_put_is_there(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.get(KEY) is None
    store.put(KEY, {"b": [1, 2.5, None], "a": "x"})
    assert store.get(KEY) == {"a": "x", "b": [1, 2.5, None]}
    assert Store(tmp_path).get(KEY) == {"a": "x", "b": [1, 2.5, None]}
    store.forget(KEY)
    assert store.get(KEY) is None
    store.forget(KEY)


def test_equal_results_are_equal_files(tmp_path: Path) -> None:
    for name, result in (("a", {"x": 1, "y": 2}), ("b", {"y": 2, "x": 1})):
        Store(tmp_path / name).put(KEY, result)
        Store(tmp_path / name).took(KEY, ord(name))
    first, second = (tmp_path / name / "results" / f"{KEY}.json" for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in first.parent.iterdir()] == [first.name]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"key": "x", "result": 1}', '{"result": 1}', "\xff"]
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results" / f"{KEY}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=f"{path}: must be the result of a job; remove it"):
        Store(tmp_path).get(KEY)


def test_what_can_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        Store(tmp_path).put(KEY, {1, 2})
    assert Store(tmp_path).get(KEY) is None


def test_times(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.took(KEY, 1.23456)
    store.took("other", 2)
    with (tmp_path / "times.jsonl").open("a") as file:
        file.write('["broken", 1')
    assert Store(tmp_path).seconds(KEY) == 1.235
    assert Store(tmp_path).seconds("broken") == 0.0


def put_for_ever(folder: Path) -> None:
    store = Store(folder)
    for number in range(1 << 30):
        store.put(KEY, {"numbers": [number] * 5000})


def test_killed_while_writing(tmp_path: Path) -> None:
    """Two processes write the same key; both are killed; what is there is one of their results."""
    context = multiprocessing.get_context("spawn")
    for _ in range(2):
        writers = [context.Process(target=put_for_ever, args=(tmp_path,)) for _ in range(2)]
        for one in writers:
            one.start()
        path = tmp_path / "results" / f"{KEY}.json"
        while not path.exists():
            time.sleep(0.01)
        for _ in range(20):
            assert len(set(Store(tmp_path).get(KEY)["numbers"])) == 1
        for one in writers:
            assert one.pid is not None
            os.kill(one.pid, signal.SIGKILL)
            one.join()
        entry = json.loads(path.read_text())
        assert len(set(entry["result"]["numbers"])) == 1
        assert len(entry["result"]["numbers"]) == 5000
