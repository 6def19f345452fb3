"""Jobs of which some are known, in threads of this process."""

import threading
from pathlib import Path

import pytest

from firmware_tools.jobs import campaign
from firmware_tools.jobs.local import Local
from firmware_tools.jobs.store import Store
from tests.firmware_tools.jobs.conftest import Square


def runs(log: Path) -> list[int]:
    return sorted(map(int, log.read_text().split()))


def squares(numbers: list[int], log: Path, store: Store | None) -> list[tuple[int, int]]:
    jobs = [Square(number, log) for number in numbers]
    found = campaign.results(jobs, Local(2), store)
    return sorted((done.job.number, done.result["square"]) for done in found)


def test_repeats_cost_nothing(tmp_path: Path, log: Path) -> None:
    store = Store(tmp_path / "store")
    assert squares([1, 2, 4], log, store) == [(1, 1), (2, 4), (4, 16)]
    assert squares([4, 5, 1, 2], log, store) == [(1, 1), (2, 4), (4, 16), (5, 25)]
    assert runs(log) == [1, 2, 4, 5]


def test_equal_jobs_run_once(tmp_path: Path, log: Path) -> None:
    assert squares([2, 2, 3, 2], log, None) == [(2, 4), (2, 4), (2, 4), (3, 9)]
    assert squares([2, 2], log, Store(tmp_path / "store")) == [(2, 4), (2, 4)]
    assert runs(log) == [2, 2, 3]


def test_what_is_not_kept_runs_again(tmp_path: Path, log: Path) -> None:
    for _ in range(2):
        assert squares([2, 3], log, Store(tmp_path / "store")) == [(2, 4), (3, 9)]
    assert runs(log) == [2, 3, 3]


def test_what_came_before_an_error_is_kept(tmp_path: Path, log: Path) -> None:
    store = Store(tmp_path / "store")
    jobs = [Square(number, log) for number in (1, 2, -1, 4, 5, 6, 7, 8)]
    with pytest.raises(ValueError, match="number must be at least 0, not -1"):
        list(campaign.results(jobs, Local(1), store))
    known = [job.number for job in jobs if store.get(job.key)]
    assert {1, 2} <= set(known)
    assert runs(log).count(-1) == 1


def test_interrupted_campaign_goes_on(tmp_path: Path, log: Path) -> None:
    """What came before is kept, what had not begun does not begin, and stops are called."""
    store, stopped = Store(tmp_path / "store"), threading.Event()
    jobs = [Square(number, log) for number in range(10, 200)]
    found = campaign.results(jobs, Local(1, stopped.set), store)
    first = [next(found).job.number for _ in range(3)]
    found.close()  # as when Ctrl-C arrives
    assert stopped.is_set()
    assert len(runs(log)) < len(jobs)
    assert [store.get(Square(number, log).key) for number in first] == [
        {"square": number**2} for number in first
    ]
    list(campaign.results(jobs, Local(1), store))
    assert all(runs(log).count(number) == 1 for number in first)
