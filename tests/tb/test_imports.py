"""What the folders may import: the model nothing, benches no firmware tools, hardware neither."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEVER = (
    ("tb", "firmware_tools"),
    ("model", "firmware_tools"),
    ("model", "hw"),
    ("model", "tb"),
    ("hw", "firmware_tools"),
    ("hw", "tb"),
)
"""Folder, and what no file of it imports, not even within a function."""


def modules(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported, by statement or by name."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module)):
                yield module
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(name), *_]):
                yield str(name)


@pytest.mark.parametrize(("folder", "other"), NEVER)
def test_never_imports(folder: str, other: str) -> None:
    """A folder that another one stands upon does not know it."""
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    found = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files
        for module in modules(ast.parse(path.read_text()))
        if module.split(".")[0] == other
    ]
    assert not found


def test_modules() -> None:
    """Every form of an import is seen."""
    text = "import a.b, c\nfrom d.e import f\ndef g():\n    import h\nlib.import_module('i.j')\n"
    assert sorted(modules(ast.parse(text))) == ["a.b", "c", "d.e", "h", "i.j"]
