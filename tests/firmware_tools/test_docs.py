"""What the documentation shows is so: its examples run, and its commands exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.exceptions import TyperException

from firmware_tools.cli import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")))
EXECUTED = ("index.md", *(f"tutorials/{path.name}" for path in (DOCS / "tutorials").glob("*.md")))
BLOCK = re.compile(r'^```(\w*)(?: title="(.+?)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^(?:\$ )?(?:\w+=\S+ )*kenyon ([^|>\n&;]*(?:\\\n[^|>\n&;]*)*)", re.MULTILINE)
"""A command of ours at the beginning of a line, without redirections and what follows it."""


@pytest.mark.parametrize("page", EXECUTED)
def test_everything_on_a_page_runs(page: str, in_empty_folder: Path) -> None:
    """Blocks in order: files by their title, then shell and Python, each of which must end well."""
    for shared in ("examples", "tests"):
        (in_empty_folder / shared).symlink_to(ROOT / shared)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    ran = 0
    for language, title, text in BLOCK.findall((DOCS / page).read_text()):
        if title:
            Path(title).write_text(text)
            continue
        if language not in {"sh", "python"}:
            continue
        program = ["bash", "-e", "-c"] if language == "sh" else [sys.executable, "-c"]
        result = subprocess.run(
            [*program, text], check=False, env=environment, capture_output=True, text=True
        )
        assert result.returncode == 0, f"{text}\n{result.stdout}\n{result.stderr}"
        ran += 1
    assert ran


def commands() -> list[tuple[str, str]]:
    """Page and command, of all fenced blocks."""
    return [
        (page.relative_to(ROOT).as_posix(), command.replace("\\\n", " "))
        for page in PAGES
        for _, _, text in BLOCK.findall(page.read_text())
        for command in COMMAND.findall(text.replace(".venv/bin/kenyon", "kenyon"))
    ]


def test_commands_of_all_pages_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firmware_tools.cli._Verb.invoke", lambda *_: None)  # only parse
    group = typer.main.get_command(app)
    wrong, seen = [], set()
    for page, command in commands():
        words = shlex.split(command, comments=True)
        if not words:
            continue
        seen.add(words[0])
        try:
            group.main(words, standalone_mode=False)
        except TyperException as error:
            wrong.append(f"{page}: kenyon {command}: {error}")
    assert not wrong, "\n".join(wrong)
    assert seen >= set(group.commands)


def test_quantised_network(kenyon) -> None:
    text = (DOCS / "quantised-network.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    subprocess.run([sys.executable, "-c", program], check=True)
    result = kenyon("infer", "example.npz", "--input", "images.npy", "--output", "y.npy")
    assert result.exit_code == 0
    results = np.load("y.npy")
    assert results.shape == (5, 10, 1, 1)
    assert len(np.unique(results)) > 10
