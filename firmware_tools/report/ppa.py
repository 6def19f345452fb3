"""Area, clock and energy of a chip, block by block."""

from collections.abc import Mapping
from typing import Any

from firmware_tools.report.charts import bars
from firmware_tools.report.page import Chart, Facts, Section, Table

MOST_BARS = 40
"""Blocks that have a bar; a table has all."""
FACTS = {
    "clock_mhz": "clock, MHz",
    "area_um2": "area, um2",
    "logic_um2": "of it logic, um2",
    "memory_um2": "of it memories (a model), um2",
    "gate_equivalents": "gates (NAND2)",
    "static_uw": "static, uW",
    "pj_per_sop": "pJ per synaptic operation, everything included",
    "pj_per_dense_sop": "pJ per synaptic operation, zeros counted",
    "pj_per_update": "pJ per neuron update",
    "decision_nj": "nJ of a decision",
    "pj_per_mac": "pJ per multiply-accumulate, everything included",
    "tops_per_watt": "TOPS/W",
}


def sections(values: Mapping[str, Any]) -> list[Section]:
    """What `kenyon ppa --json` says."""
    facts: dict[str, object] = {name: values[name] for name in ("configuration", "process")}
    facts |= {label: values.get(name) for name, label in FACTS.items()}
    path = values["critical_path"]
    steps = [[s["time"], *(v for n, v in s.items() if n != "time")] for s in path["steps"]]
    measured = {one["network"]: one for one in values["measurements"]}
    if values["with_delays"]:
        measured[f"{values['with_delays']['network']}, with delays"] = values["with_delays"]
    columns = ["ns", *(name for name in path["steps"][0] if name != "time")] if steps else ["ns"]
    return [
        Section("Summary", [Facts("Typical corner, before layout: see docs/silicon.md", facts)]),
        Section("Area", _blocks(values["areas"], "um2", "area", ("cells",))),
        *(
            Section(
                f"Energy, {name}",
                [
                    Facts(
                        "What was done",
                        {n: v for n, v in one.items() if n not in ("shares", "network")},
                    ),
                    *_blocks(one["shares"], "pJ", "energy"),
                ],
            )
            for name, one in measured.items()
        ),
        Section(
            "Slowest path",
            [
                Table(
                    f"From {path['start']} to {path['end']}, period {path['period']:.2f} ns.",
                    columns,
                    steps,
                )
            ],
        ),
    ]


def _blocks(
    blocks: list[Mapping[str, Any]], unit: str, what: str, more: tuple[str, ...] = ()
) -> list[Chart | Table]:
    """Logic and memory of blocks, the largest first, without those in them."""
    ordered = sorted(blocks, key=lambda one: -(one["logic"] + one["memory"]))
    shown, rest = ordered[:MOST_BARS], ordered[MOST_BARS:]
    names = [one["module"] or "(top)" for one in shown]
    parts = {part: [one[part] for one in shown] for part in ("logic", "memory")}
    if rest:
        names.append(f"{len(rest)} others")
        for part, values in parts.items():
            values.append(sum(one[part] for one in rest))
    rows = [
        [one["module"] or "(top)", *(one[name] for name in ("logic", "memory", *more))]
        for one in ordered
    ]
    return [
        Chart(
            f"{what.capitalize()} of each block without those in it, the largest first.",
            bars(names, parts, unit, unit=unit),
        ),
        Table(
            f"{what.capitalize()} of every block",
            ["block", f"logic, {unit}", f"memory, {unit}", *more],
            rows,
            [] if len(rows) <= MOST_BARS else ["block"],
        ),
    ]
