"""`kenyon inspect` for images of MARS: passes and totals."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from model.mars.config import LINE_BITS
from model.mars.image import Features, Image, PassContents
from model.mars.layout import (
    DESCRIPTOR_LINES,
    TABLE_LINES,
    Descriptor,
    header_lines,
)
from model.mars.network import INPUT
from model.mars.program import Pass

ADDRESS_MASK = 0xFFFF


def describe(image: Image) -> dict[str, Any]:
    """What an image holds, ready for JSON."""
    passes = [
        _pass(one, contents, header_lines(image.config.wide_multiplier))
        for one, contents in zip(image.passes, image.contents.passes, strict=True)
    ]
    bits = {
        name: sum(one[name] for one in passes)
        for name in ("weight_bits", "index_bits", "table_bits")
    }
    return {
        "network": image.contents.name,
        "input": type_name(image.contents.input),
        "packing": _packing(image),
        "input_address": image.input_descriptor.out_base[0],
        "output": type_name(image.output),
        "output_address": image.contents.output_address,
        "output_stored": image.contents.stored,
        **memory_use(image),
        "passes": passes,
        "lines": len(image.lines),
        **bits,
        "index_overhead": share(bits["index_bits"], bits["weight_bits"]),
    }


def memory_use(image: Image) -> dict[str, int]:
    """What a network does whose maps do not fit: segments, and bytes of maps in memory."""
    return {
        "segments": len(image.segments),
        "bytes_written": image.bytes_written,
        "bytes_read": image.bytes_read,
        "scratch_bytes": image.scratch_bytes,
    }


def memory_text(values: Mapping[str, Any]) -> str:
    """The same for people, nothing if all maps fit."""
    if values["segments"] == 1:
        return ""
    return (
        f"maps that do not fit lie in memory: {values['segments']} segments, "
        f"{values['bytes_written']:,} bytes written and {values['bytes_read']:,} read per frame, "
        f"{values['scratch_bytes']:,} bytes behind SCRATCH_BASE"
    )


def _packing(image: Image) -> dict[str, int] | None:
    """How several pixels of the input are in one word, if they are (`model.mars.packing`)."""
    packing = image.contents.packing
    return None if packing is None else packing.model_dump()


def _pass(one: Pass, contents: PassContents, n_header_lines: int) -> dict[str, Any]:
    d = one.descriptor
    return {
        "layers": list(contents.layers),
        "move": contents.move,
        "source": contents.source,
        "copies": contents.copies,
        "partial": contents.partial,
        "kernel": list(contents.kernel),
        "stride": [d.row_stride, d.col_stride],
        "dilation": [d.row_dilation, d.col_dilation],
        "first_row": contents.team_rows[0],
        "padding_top": max(d.pad_top, 0),
        "padding_left": d.pad_left,
        "maximum": bool(d.maximum),
        "lookup": bool(d.lookup),
        "stored_weight_bits": 8 if d.wide else 4,
        "split": d.split,
        "teams": d.n_teams,
        "rows_per_team": d.rows_per_team,
        "kernel_blocks": len(one.blocks),
        "entries": sum(block.n_entries for block in one.blocks),
        "sets_kept": contents.kept_sets,
        "sets_total": contents.total_sets,
        **stored_bits(one, n_header_lines),
        "output": type_name(contents.outputs[-1]),
        "source_address": _source_address(d),
        "skip_address": d.skip_base[0] if d.has_skip else None,
        "output_address": None if contents.move == "store" else d.out_base[0],
        "memory_word": d.map_word if contents.move == "store" else None,
    }


def _source_address(d: Descriptor) -> int:
    """Of the first word that is read in macro 0: the first tap may lie above and left of it."""
    if d.is_store:
        return d.in_base[0]
    rows = max(d.pad_top, 0) * (d.tap_row_pitch // d.row_dilation)
    cols = d.pad_left * (d.tap_col_pitch // d.col_dilation)
    return (d.in_base[0] + rows + cols) & ADDRESS_MASK


def stored_bits(one: Pass, n_header_lines: int) -> dict[str, int]:
    """Bits of a pass in the program: group-sets, index lines, and all other tables.

    Together they are all of its lines.
    """
    n_entries = sum(block.n_entries for block in one.blocks)
    tables = DESCRIPTOR_LINES + n_header_lines * len(one.blocks)
    tables += one.n_word_lines + (TABLE_LINES if one.table is not None else 0)
    return {
        "weight_bits": n_entries * one.entry_lines * LINE_BITS,
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
        addresses = [one["source_address"], one["skip_address"]]
        is_packed = values["packing"] is not None and one["source"] == INPUT
        if one["move"]:
            result.add_row(
                escape(f"({one['move']}) {one['layers'][0]}"),
                *[""] * 5,
                one["output"],
                str(one["source_address"]) if one["move"] == "store" else "memory",
                "memory" if one["move"] == "store" else str(one["output_address"]),
            )
            continue
        result.add_row(
            escape("\n".join([*_kinds(one), *is_packed * ["(packed)"], *one["layers"]])),
            kernel_name(one["kernel"], one["stride"]),
            f"{one['split']}x{one['teams']}x{one['rows_per_team']}",
            f"{one['entries']:,}",
            f"{one['sets_kept']}/{one['sets_total']}",
            f"{one['weight_bits'] // 1024:,}",
            one["output"],
            "\n".join(str(address) for address in addresses if address is not None),
            str(one["output_address"]),
        )
    return result


def kernel_name(kernel: Sequence[int], stride: Sequence[int]) -> str:
    """A kernel for people: `3x3`, `7x7/2`, `10x4/2x1`."""
    steps = [str(step) for step in dict.fromkeys(stride)]
    return "x".join(map(str, kernel)) + ("" if steps == ["1"] else f"/{'x'.join(steps)}")


def _kinds(one: Mapping[str, Any]) -> list[str]:
    """What is special about a pass."""
    kinds = {"(copy)": "copies", "(step)": "partial", "(maximum)": "maximum"}
    rows = [f"(from row {one['first_row']})"] if one["first_row"] else []
    return [*(name for name, key in kinds.items() if one[key]), *rows]


def totals(values: dict[str, Any]) -> str:
    """Sums, for people."""
    return (
        f"{values['lines']:,} lines: {values['weight_bits']:,} weight bits, "
        f"{values['index_bits']:,} index bits ({100 * values['index_overhead']:.2f} % of them), "
        f"{values['table_bits']:,} table bits"
    )
