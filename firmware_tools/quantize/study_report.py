"""`kenyon bench quantizers`: runs the study and says what came out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from rich.table import Table

from firmware_tools.console import Terminal
from firmware_tools.inputs import check_folder
from firmware_tools.quantize.study import BITS, METHODS, Run, Study, as_json, draw, markdown, rows
from firmware_tools.report import page

FOLDER = Path("build") / "quantizers"


R_co = TypeVar("R_co", covariant=True)


class AnyStudy(Protocol[R_co]):
    """Networks that are trained one after the other, and what was measured of each."""

    def __len__(self) -> int: ...

    def run(self) -> Iterator[R_co]: ...


def collect(study: AnyStudy[R_co], terminal: Terminal) -> list[R_co]:
    """All runs of a study; after Ctrl-C the same command goes on."""
    runs: list[R_co] = []
    try:
        with terminal.progress("networks", len(study)) as advance:
            for run in study.run():
                runs.append(run)
                advance(len(runs))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted after {len(runs)} of {len(study)} networks; the same command goes on"
        ) from None
    return runs


def bench(
    terminal: Terminal, *, n_seeds: int, quick: bool, output: Path | None, report: Path | None
) -> None:
    """Run the study; write figure, table and JSON beside `output` (.png), if there is one."""
    if output is not None:
        check_folder(output)
    runs = collect(Study(FOLDER, n_seeds, quick=quick), terminal)
    if output is not None:
        draw(runs, output)
        output.with_suffix(".md").write_text(markdown(runs))
        output.with_suffix(".json").write_text(f"{json.dumps(as_json(runs), indent=1)}\n")
    values = as_json(runs)
    terminal.result(values)
    terminal.print(_table(runs))
    if report is not None:
        from firmware_tools.report.bench import quantizers

        page.write(report, "Quantisers on the digits", quantizers(values), terminal)


def _table(runs: list[Run]) -> Table:
    by_key = {(row.method, row.bits): row for row in rows(runs)}
    exact = by_key["float", 0]
    title = f"digits, not ImageNet; float {exact.mean:.2f} ± {exact.spread:.2f} %"
    table = Table(title=f"{title}, {exact.n_seeds} seeds")
    table.add_column("quantiser")
    for bits in BITS:
        table.add_column(f"{bits} bits, %", justify="right")
    for method in METHODS:
        own = [by_key[method.name, bits] for bits in BITS]
        table.add_row(method.name, *(f"{row.mean:.2f} ± {row.spread:.2f}" for row in own))
    return table
