"""`kenyon bench quantizers`: runs the study and says what came out."""

import json
from pathlib import Path

from rich.table import Table

from firmware_tools.console import Terminal
from firmware_tools.inputs import check_folder
from firmware_tools.quantize.study import BITS, METHODS, Run, Study, as_json, draw, markdown, rows

FOLDER = Path("build") / "quantizers"


def bench(terminal: Terminal, *, n_seeds: int, quick: bool, output: Path | None) -> None:
    """Run the study; write figure, table and JSON beside `output` (.png), if there is one."""
    if output is not None:
        check_folder(output)
    study = Study(FOLDER, n_seeds, quick=quick)
    runs: list[Run] = []
    try:
        with terminal.progress("networks", len(study)) as advance:
            for run in study.run():
                runs.append(run)
                advance(len(runs))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted after {len(runs)} of {len(study)} networks; the same command goes on"
        ) from None
    if output is not None:
        draw(runs, output)
        output.with_suffix(".md").write_text(markdown(runs))
        output.with_suffix(".json").write_text(f"{json.dumps(as_json(runs), indent=1)}\n")
    terminal.result(as_json(runs))
    terminal.print(_table(runs))


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
