"""The command line as a whole: help, exit codes, errors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_tools import commands
from firmware_tools.cli import exit_code
from firmware_tools.console import BAD_INPUT, invocation
from hw.asic.osu018 import MissingLibrary
from hw.yosys import YosysError

MAIN = "from firmware_tools.cli import main; main()"


def test_help_shows_every_verb(kenyon) -> None:
    result = kenyon("--help")
    assert result.exit_code == 0
    for verb in commands.NAMES:
        assert f" {verb} " in result.stdout


VERBS = [
    *(name for name in commands.NAMES if name not in commands.GROUPS),
    *(f"{name} {one}" for name, group in commands.GROUPS.items() for one in group.subjects),
]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples_and_json(kenyon, verb: str) -> None:
    result = kenyon(*verb.split(), "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout
    assert f"kenyon {verb}" in result.stdout.partition("Examples:")[2]


@pytest.mark.parametrize("verb", commands.GROUPS)
def test_a_group_has_a_line_for_each_subject(kenyon, verb: str) -> None:
    group = commands.GROUPS[verb]
    result = kenyon(verb, "--help")
    assert result.exit_code == 0
    about, _, rows = result.stdout.partition(" Commands ")
    named = [row.split()[1] for row in rows.splitlines()[1:] if row.startswith("│")]
    assert named == list(group.subjects)
    assert ("Without a subject it is" in about) == bool(group.default)
    assert group.default in about


def test_the_subject_that_is_not_named(kenyon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firmware_tools.npu.figures.measurements", lambda **_: {})
    for words in (("--quick", "--json"), ("npu", "--quick", "--json")):
        assert kenyon("bench", *words).stdout == '{"figures": []}\n'
        assert invocation().command == "kenyon bench npu --quick --json"
        assert invocation().options == {"--quick": True, "--report": None, "--json": True}


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("bench --sparsity 0.5", "No such option: --sparsity"),
        ("bench npu --table", "No such option: --table"),
        ("bench mars --quick", "No such option: --quick"),
        ("bench mars --device pcm", "No such option: --device"),
        ("bench quantizers --data mnist", "No such option: --data"),
        ("bench adaptation -o x.png", "No such option: -o"),
        ("bench prompts --network vgg16", "No such option: --network"),
        ("train avoid --spiking", "No such option: --spiking"),
        ("train vit --policy p.npz", "No such option: --policy"),
        ("train --bits 3", "No such option: --bits"),
        ("bench fly", "No such command 'fly'"),
        ("bench --quick mars", "Got unexpected extra argument(s) (mars)"),
    ],
)
def test_what_a_subject_does_not_take(kenyon, words: str, error: str) -> None:
    result = kenyon(*words.split())
    assert result.exit_code == 2
    assert error in result.stderr
    assert len(result.stderr.splitlines()) == 5


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_nothing_slow(option: str) -> None:
    slow = ("numpy", "numba", "amaranth", "pydantic", "matplotlib", "systemrdl", "cocotb")
    program = f"""
import sys
sys.argv = ["kenyon", "{option}"]
try:
    {MAIN}
finally:
    print([name for name in {slow} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_no_verb_is_bad_input(kenyon) -> None:
    assert kenyon().exit_code == 2


def test_unknown_verb_is_bad_input(kenyon) -> None:
    result = kenyon("fly")
    assert result.exit_code == 2
    assert "No such command 'fly'" in result.stderr


@pytest.mark.parametrize("verb", ["run", "compile", "compare"])
@pytest.mark.parametrize("files", [(), ("tonic.json", "--iqif", "a", "b", "c")])
def test_one_network_must_be_given(kenyon, verb: str, files: tuple[str, ...]) -> None:
    output = ("-o", "x.img") if verb == "compile" else ()
    result = kenyon(verb, *files, *output)
    assert result.exit_code == 2
    assert result.stderr == (
        "error: give either NETWORK.json or --iqif NEURONS CONNECTIONS SESSION\n"
    )
    assert result.stdout == ""


@pytest.mark.parametrize("verb", ["run", "compile", "compare"])
def test_unknown_configuration(kenyon, tonic, verb: str) -> None:
    output = ("-o", "x.img") if verb == "compile" else ()
    result = kenyon(verb, tonic(), "-c", "huge", *output)
    assert result.exit_code == 2
    assert result.stderr == (
        "error: configuration must be one of tiny, poppins, odin, large, not huge\n"
    )


@pytest.mark.parametrize("verb", ["run", "compile", "compare"])
def test_missing_network_file(kenyon, verb: str) -> None:
    output = ("-o", "x.img") if verb == "compile" else ()
    result = kenyon(verb, "nothing.json", *output)
    assert result.exit_code == 2
    assert result.stderr == "error: nothing.json: no such file\n"


@pytest.mark.parametrize("verb", ["run", "compile", "compare"])
def test_network_too_large(kenyon, tonic, verb: str) -> None:
    neurons = [{"rest": 1, "threshold": 2, "reset": 3, "a": 1, "b": 1}] * 20
    path = tonic(populations=[20], neurons=neurons)
    output = ("-o", "x.img") if verb == "compile" else ()
    result = kenyon(verb, path, "-c", "tiny", *output)
    assert result.exit_code == 2
    assert result.stderr == (
        "error: population 0 has 20 neurons, tiny has room for 16: 4 too many\n"
    )


def test_faulty_network(kenyon, tonic) -> None:
    path = tonic(session=[{"steps": 0}])
    result = kenyon("run", path)
    assert result.exit_code == 2
    assert result.stderr == f"error: {path}: session[0].steps must be at least 1, not 0\n"


def test_faulty_iqif_files(kenyon, in_empty_folder: Path) -> None:
    (in_empty_folder / "n.txt").write_text("0 1 2 3 0 0 0\n")
    files = ("--iqif", "n.txt", "c.txt", "s.txt")
    result = kenyon("run", *files, "--iqif-columns", "slopes")
    assert result.exit_code == 2
    assert result.stderr == "error: n.txt:1: a + b must be at least 1, not 0\n"


def test_tau_conflict_is_a_warning(kenyon, in_empty_folder: Path) -> None:
    (in_empty_folder / "n.txt").write_text("0 128 200 128 1 1 0\n1 128 200 128 1 1 0\n")
    (in_empty_folder / "c.txt").write_text("0 1 5 4\n1 1 5 8\n")
    (in_empty_folder / "s.txt").write_text("3 0 10 -1 -1\n")
    result = kenyon("run", "--iqif", "n.txt", "c.txt", "s.txt", "--iqif-columns", "slopes")
    assert result.exit_code == 0
    assert result.stderr == (
        "warning: c.txt:1 and c.txt:2 give neuron 1 different tau, 4 and 8: 8 wins, "
        "it has the highest pre index\n"
    )


OUTPUT = {"run": (), "compare": (), "compile": ("-o", "x.img")}


@pytest.mark.parametrize("verb", OUTPUT)
def test_columns_that_could_be_either(kenyon, in_empty_folder: Path, verb: str) -> None:
    (in_empty_folder / "n.txt").write_text("0 62 75 68 4 1 0\n")
    result = kenyon(verb, "--iqif", "n.txt", "c.txt", "s.txt", *OUTPUT[verb])
    assert result.exit_code == 2
    assert result.stderr.startswith(
        "error: n.txt:1: columns behind reset must be said to be slopes or shifts, as 4 1 could be "
    )


def test_columns_with_shifts(kenyon, in_empty_folder: Path) -> None:
    (in_empty_folder / "n.txt").write_text("0 128 200 128 3 3 0\n")
    (in_empty_folder / "c.txt").write_text("")
    (in_empty_folder / "s.txt").write_text("400 0 10 -1 -1\n")
    files = ("--iqif", "n.txt", "c.txt", "s.txt")
    result = kenyon("run", *files, "--iqif-columns", "shifts", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["spikes"] == [26]  # as with slopes 1 1
    assert result.stderr.startswith("warning: n.txt: neurons with shifts are of the simulator ")


@pytest.mark.parametrize("verb", OUTPUT)
@pytest.mark.parametrize("file", ["net.json", "net.npz"])
def test_columns_without_iqif(kenyon, verb: str, file: str) -> None:
    result = kenyon(verb, file, "--iqif-columns", "slopes", *OUTPUT[verb])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --iqif-columns must be left out")


def test_a_mistake_of_ours_is_no_user_error(kenyon, tonic, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("model.npu.network_file.load", fail)
    assert isinstance(kenyon("run", tonic()).exception, ValueError)


def test_missing_tools_are_one_line() -> None:
    assert exit_code(MissingLibrary("the library is missing")) == BAD_INPUT
    assert exit_code(YosysError("Yosys is missing")) == BAD_INPUT


def test_version(kenyon) -> None:
    result = kenyon("--version")
    assert (result.exit_code, result.stdout) == (0, "kenyon 0.1.0\n")
