"""Results that are kept by their content."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hw.cache import cached, is_kept, key


def refuse(_folder: Path) -> None:
    pytest.fail("it was there")


def test_interrupted_work_is_done_anew(tmp_path: Path) -> None:
    """What was half done stays for a look, and nothing of it enters the result."""

    def interrupted(folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    folder = tmp_path / "kept" / "x"
    with pytest.raises(KeyboardInterrupt):
        cached(folder, interrupted)
    assert (folder / "half").exists()
    assert not is_kept(folder)
    cached(folder, lambda made: (made / "whole").touch())
    assert is_kept(folder)
    assert cached(folder, refuse) == folder
    assert sorted(path.name for path in folder.iterdir()) == ["done", "whole"]


def test_one_at_a_time(tmp_path: Path) -> None:
    """Who wants the same at the same time gets it once."""
    calls: list[Path] = []
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: cached(tmp_path / "x", calls.append), range(8)))
    assert calls == [tmp_path / "x"]


def test_key_tells_parts_apart() -> None:
    assert key("ab", "c") != key("a", "bc")
    assert key("ab") == key(b"ab")
