"""Which code a result depends on: all that runs, and not much else."""

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from firmware_tools import proofs, regression
from firmware_tools.jobs import code
from firmware_tools.mars import bench_report
from firmware_tools.regression import Case, Simulation
from model.mars.config import CONFIGS as MARS_CONFIGS
from model.npu.config import CONFIGS
from tb.formal.proofs import PROOFS

MODULES = [path for name in code.PACKAGES for path in sorted((code.ROOT / name).rglob("*.py"))]


def parsed(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module)):
                yield from (f"{module}.{alias.name}" for alias in node.names)


def test_every_import_is_seen() -> None:
    for path in MODULES[::5]:  # all of them take too long
        text = path.read_text()
        missed = set(parsed(text)) - set(code.imports(text))
        assert not {name for name in missed if name.split(".")[0] in code.PACKAGES}, path


def test_modules_by_name_are_seen() -> None:
    assert list(code.imports('run("tb.mars.serve")\nimport a.b as c, d\n')) == [
        "tb.mars.serve",
        "a.b",
        "d",
    ]
    assert code.ROOT / "tb/mars/serve.py" in code.files(("tb.mars.cosim",))
    assert code.ROOT / "model/mars/zoo/vgg.py" in code.files(("model.mars.zoo",))
    assert code.ROOT / "tb/mars/system.sv" in code.files(("tb.mars.cosim",))


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Change a line of a file, for those who look now."""

    def change(name: str) -> None:
        content = code.content_of
        path = code.ROOT / name
        assert path.exists()
        monkeypatch.setattr(
            code, "content_of", lambda other: content(other) + b"\n" * (other == path)
        )
        code.digest.cache_clear()

    yield change
    code.digest.cache_clear()


def keys() -> dict[str, str]:
    tiny, mars = CONFIGS["tiny"], MARS_CONFIGS["mars-tiny"]
    cases = [Case("soma", tiny, 1), Case("core", mars, 1), Case("random", tiny, 1)]
    cases += [Case(name, mars, 1) for name in ("quantised", "spiking", "quantised-rtl")]
    found = {case.name: Simulation((case,), Path()).key for case in cases}
    return found | {f"prove {name}": proofs.Proving(name, 0).key for name in ("soma", "membranes")}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("tb/npu/tb_soma.py", {"soma"}),
        ("tb/mars/tb_core.py", {"core"}),
        ("tb/formal/npu/soma.py", {"prove soma"}),
        ("model/mars/reference.py", {"quantised", "spiking", "quantised-rtl"}),
        ("firmware_tools/mars/pass_difference.py", {"quantised", "spiking", "quantised-rtl"}),
        ("firmware_tools/npu/lockstep.py", {"random"}),
        ("firmware_tools/similarity/__init__.py", set()),
        ("firmware_tools/commands/regress.py", set()),
    ],
)
def test_change_of_a_line(changed: Callable[[str], None], file: str, expected: set[str]) -> None:
    before = keys()
    changed(file)
    after = keys()
    assert {name for name in before if before[name] != after[name]} == expected


def test_arguments_decide() -> None:
    tiny, poppins = CONFIGS["tiny"], CONFIGS["poppins"]
    jobs = [
        Simulation((Case("soma", tiny, 1),), Path()),
        Simulation((Case("soma", tiny, 2),), Path()),
        Simulation((Case("soma", poppins, 1),), Path()),
        Simulation((Case("noise", tiny, 1),), Path()),
        Simulation((Case("soma", tiny, 1),), Path(), simulator="blocks-1"),
        Simulation((Case("soma", tiny, 1), Case("soma", tiny, 2)), Path()),
    ]
    assert len({job.key for job in jobs}) == len(jobs)
    assert jobs[0].key == Simulation((Case("soma", tiny, 1),), Path("elsewhere"), waves=True).key


def executed(work: Callable[[], Any]) -> set[Path]:
    """Files of ours in which a function ran."""
    found: set[str] = set()

    def trace(frame: FrameType, _event: str, _argument: object) -> None:
        found.add(frame.f_code.co_filename)

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    paths = {Path(name) for name in found}
    return {p for p in paths if p.is_relative_to(code.ROOT) and ".venv" not in p.parts}


@pytest.mark.parametrize("name", ["quantised", "spiking", "attention"])
def test_all_that_runs_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network on the golden machine, whose key leaves out what the RTL needs."""
    asked: list[tuple[Path, ...]] = []
    digest = code.digest

    def note(*arguments: Any, **more: Any) -> str:
        asked.append(code.files(*arguments, **more))
        return digest(*arguments, **more)

    monkeypatch.setattr(regression.code, "digest", note)
    job = Simulation((Case(name, MARS_CONFIGS["mars-tiny"], 5),), Path())
    assert job.key
    ran = executed(job.run)
    assert code.ROOT / "model/mars/machine.py" in ran
    assert ran <= {*asked[0], Path(__file__)}


def test_all_that_the_table_runs_counts() -> None:
    choice = bench_report.Choice(
        config=MARS_CONFIGS["mars-tiny"],
        network=None,
        sparsity=None,
        weight_bits=None,
        act_bits=None,
        time_steps=2,
        seed=0,
        clock_mhz=1.0,
    )
    files = code.files(bench_report.TABLE_CODE, (bench_report.__name__,), ("hw", "tb"))
    ran = executed(bench_report.Row(choice, "lenet5", 0.75).run)
    assert ran <= {*files, Path(__file__)}


def test_everything_is_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python and numba write beside the sources comes and goes."""
    read: list[Path] = []
    monkeypatch.setattr(code, "content_of", lambda path: read.append(path) or b"")
    assert code.everything()
    assert {path.relative_to(code.ROOT) for path in read} >= {
        Path("hw/top.py"),
        Path("tb/mars/system.sv"),
        Path("model/registers.rdl"),
    }
    assert not [path for path in read if path.parent.name == "__pycache__"]


def test_every_proof_has_a_key() -> None:
    assert len({proofs.Proving(name, 0).key for name in PROOFS}) == len(PROOFS)
