"""`kenyon inspect` for images of MARS: passes and totals."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from model.mars.config import LINE_BITS
from model.mars.image import Features, Image, PassContents
from model.mars.layout import DESCRIPTOR_LINES, HEADER_LINES, lines_per_entry
from model.mars.program import Pass

ADDRESS_MASK = 0xFFFF


def describe(image: Image) -> dict[str, Any]:
    """What an image holds, ready for JSON."""
    passes = [
        _pass(one, contents)
        for one, contents in zip(image.passes, image.contents.passes, strict=True)
    ]
    bits = {
        name: sum(one[name] for one in passes)
        for name in ("weight_bits", "index_bits", "table_bits")
    }
    return {
        "network": image.contents.name,
        "input": type_name(image.contents.input),
        "input_address": image.input_descriptor.out_base[0],
        "output": type_name(image.output),
        "output_address": image.contents.output_address,
        "passes": passes,
        "lines": len(image.lines),
        **bits,
        "index_overhead": share(bits["index_bits"], bits["weight_bits"]),
    }


def _pass(one: Pass, contents: PassContents) -> dict[str, Any]:
    d = one.descriptor
    return {
        "layers": list(contents.layers),
        "source": contents.source,
        "copies": contents.copies,
        "kernel": 3 if d.kernel3 else 1,
        "stride": 1 + d.stride2,
        "padding": d.pad,
        "stored_weight_bits": 8 if d.wide else 4,
        "split": d.split,
        "teams": d.n_teams,
        "rows_per_team": d.rows_per_team,
        "kernel_blocks": len(one.blocks),
        "entries": sum(block.n_entries for block in one.blocks),
        "sets_kept": contents.kept_sets,
        "sets_total": contents.total_sets,
        **stored_bits(one),
        "output": type_name(contents.outputs[-1]),
        "source_address": d.in_base[0] + d.pad * (d.in_row_pitch + d.in_col_pitch) & ADDRESS_MASK,
        "skip_address": d.skip_base[0] if d.has_skip else None,
        "output_address": d.out_base[0],
    }


def stored_bits(one: Pass) -> dict[str, int]:
    """Bits of a pass in the program: group-sets, index lines, and descriptor with headers.

    Together they are all of its lines.
    """
    n_entries = sum(block.n_entries for block in one.blocks)
    tables = DESCRIPTOR_LINES + HEADER_LINES * len(one.blocks)
    return {
        "weight_bits": n_entries * lines_per_entry(one.descriptor.split) * LINE_BITS,
        "index_bits": one.n_index_lines * LINE_BITS,
        "table_bits": tables * LINE_BITS,
    }


def share(part: int, whole: int) -> float:
    """Part of a whole; nothing is no part of nothing."""
    return part / whole if whole else 0.0


def type_name(kind: Features) -> str:
    """A type for people: `64x32x32 u4`."""
    size = "x".join(map(str, kind.shape))
    return f"{size} {'s' if kind.signed else 'u'}{kind.bits}"


def table(values: dict[str, Any]) -> Table:
    """The passes; addresses are those of macro 0."""
    result = Table(box=SIMPLE_HEAD, padding=0)
    result.add_column("layers", overflow="fold")
    for title in ("kernel", "spread", "entries", "sets kept", "kbit", "output", "reads", "writes"):
        result.add_column(title, justify="right", no_wrap=True)
    for one in values["passes"]:
        size, stride = one["kernel"], one["stride"]
        addresses = [one["source_address"], one["skip_address"]]
        result.add_row(
            escape("\n".join([*(["(copy)"] if one["copies"] else []), *one["layers"]])),
            f"{size}x{size}" + (f"/{stride}" if stride > 1 else ""),
            f"{one['split']}x{one['teams']}x{one['rows_per_team']}",
            f"{one['entries']:,}",
            f"{one['sets_kept']}/{one['sets_total']}",
            f"{one['weight_bits'] // 1024:,}",
            one["output"],
            "\n".join(str(address) for address in addresses if address is not None),
            str(one["output_address"]),
        )
    return result


def totals(values: dict[str, Any]) -> str:
    """Sums, for people."""
    return (
        f"{values['lines']:,} lines: {values['weight_bits']:,} weight bits, "
        f"{values['index_bits']:,} index bits ({100 * values['index_overhead']:.2f} % of them), "
        f"{values['table_bits']:,} table bits"
    )
