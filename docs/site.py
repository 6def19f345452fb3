"""What the site gets beside its pages: timing diagrams, register map, guide for developers."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import wavedrom
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from firmware_tools.generator import write_page
from model.config import CHIPS

ROOT = Path(__file__).parents[1]
SOURCE_LINK = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")
"""A link out of this folder, to a file that only the repository has."""


def timing_diagram(source: str, *_: object, **__: object) -> str:
    """A code block of the language `wavedrom` (WaveJSON) as SVG."""
    return f'<div class="wavedrom">{wavedrom.render(source).tostring()}</div>'


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Has code blocks of the language `wavedrom` drawn."""
    fence = {"name": "wavedrom", "class": "wavedrom", "format": timing_diagram}
    config.mdx_configs["pymdownx.superfences"] = {"custom_fences": [fence]}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made of other files."""
    with TemporaryDirectory() as folder:
        page = Path(folder) / "registers.md"
        write_page(CHIPS["kenyon"], page)
        registers = page.read_text()
    developing = (ROOT / "CONTRIBUTING.md").read_text()
    for name, text in {"registers.md": registers, "developing.md": developing}.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leaves only the names of links to source files."""
    return SOURCE_LINK.sub(r"\1", markdown) if page.file.src_uri.count("/") == 0 else markdown
