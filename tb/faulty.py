"""The RTL with memories whose cells may be wrong: text of the Verilog, as benches simulate it.

What is read of a memory goes through three masks, ``(word ^ flips) & ~zeros | ones``, out of files
that the simulation gets as +cells=FOLDER. The RTL itself knows nothing of it.
"""

import re
from pathlib import Path

import numpy as np

from model.mars.config import WORD_BITS, MarsConfig
from model.mars.devices.bit_cells import Cells, Words

MASKS = ("flips", "zeros", "ones")
MODULES = {"features": "features", "macros": "macro.array"}
"""Of a lane, by memory."""
ARRAY = re.compile(r"^  reg \[(\d+):0\] array \[(\d+):0\];$", re.MULTILINE)
READ = "_0_ <= array[read__addr];"
MASKED = "_0_ <= ((array[read__addr] ^ flips[read__addr]) & ~zeros[read__addr]) | ones[read__addr];"


def with_masks(verilog: str, config: MarsConfig) -> str:
    """The chip with masks at each macro and each feature memory."""
    for number in range(config.n_macros):
        core, lane = divmod(number, config.macros_per_core)
        for memory, module in MODULES.items():
            name = f"engine.core_{core}.lane_{lane}.{module}"
            found = re.search(
                rf"^module \\\S+\.{re.escape(name)} .*?^endmodule$", verilog, re.M | re.S
            )
            assert found is not None, name
            text = found.group()
            assert text.count(READ) == 1, name
            text = ARRAY.sub(lambda at, n=f"{memory}_{number}": at.group() + _masks(n, at), text)
            text = text.replace(READ, MASKED)
            verilog = verilog[: found.start()] + text + verilog[found.end() :]
    return verilog


def _masks(name: str, array: re.Match[str]) -> str:
    """Declarations behind that of an array: all cells are good unless there are files."""
    top, last = array.groups()
    lines = [f"  reg [{top}:0] {mask} [{last}:0];" for mask in MASKS]
    lines += ["  integer cell_row;", "  string cells;", "  initial begin"]
    lines += [f"    for (cell_row = 0; cell_row <= {last}; cell_row = cell_row + 1) begin"]
    lines += [f"      {mask}[cell_row] = 0;" for mask in MASKS]
    lines += ["    end", '    if ($value$plusargs("cells=%s", cells)) begin']
    lines += [f'      $readmemh({{cells, "/{name}.{mask}"}}, {mask});' for mask in MASKS]
    lines += ["    end", "  end"]
    return "\n" + "\n".join(lines)


def write(cells: Cells | None, config: MarsConfig, folder: Path) -> None:
    """The files of all memories."""
    for number in range(config.n_macros):
        for memory in MODULES:
            n_rows, n_words = (config.feature_words // 2, 2) if memory == "features" else (64, 16)
            for mask in MASKS:
                rows = np.zeros((n_rows, n_words), np.uint64)
                if cells is not None and cells.memory == memory:
                    rows = getattr(cells, mask)[number].reshape(n_rows, n_words)
                path = folder / f"{memory}_{number}.{mask}"
                path.write_text("".join(f"{_hex(row)}\n" for row in rows))


def _hex(row: Words) -> str:
    """Words of a row, the first one lowest."""
    return "".join(f"{int(word):0{WORD_BITS // 4}x}" for word in row[::-1])
