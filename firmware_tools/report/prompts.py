"""Condensed prompts: what each was worth, what is left, what it costs, what attention takes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bokeh.layouts import row

from firmware_tools.prompts.likeness import Attention, Matrix
from firmware_tools.quantize.vit import N_TOKENS
from firmware_tools.report.charts import axes, bars, heat_map, lines
from firmware_tools.report.page import Chart, Facts, Section, Table, Text
from firmware_tools.report.train import loss

FACTS = ("task", "prompts", "accuracy_of_all", "accuracy", "clocks_saved", "bound_saved", "equal")
COSTS = {
    "clocks": "clocks of a frame",
    "bound": "clocks of the bound",
    "energy_uj": "energy of a frame, estimated, uJ",
    "program_bytes": "program, bytes",
    "feature_words": "feature memory of a macro, words of 64 bits",
}
ENERGY = (
    "Energy is an estimate: multiply-accumulates that the macros make, each as costly as one of a "
    "convolution on mars-tiny in 180 nm, everything included. Softmax and normalisation are left "
    "out: their unit was not measured."
)


def sections(
    values: Mapping[str, Any], losses: Sequence[tuple[str, float]], maps: Sequence[Attention]
) -> list[Section]:
    """What `kenyon prompts condense --json` says, and what its integers pay attention to.

    Parameters
    ----------
    losses : sequence of (str, float)
        Stage of each epoch, and its mean loss.
    maps : sequence of Attention
        Of each block with the prompts that are kept, for the first test image.
    """
    facts = {name.replace("_", " "): values[name] for name in FACTS}
    cka = values["cka"]
    likeness = bars(list(cka), {"CKA": list(cka.values())}, "CKA")
    return [
        Section("Summary", [Facts("The condensation", facts)]),
        Section(
            "What each prompt was worth",
            [Chart("Mean of |prompt . gradient| over the batches, best first.", _worth(values))],
        ),
        Section("Costs", [Text(ENERGY), *_costs(values["costs"])]),
        Section(
            "Likeness",
            [
                Chart(
                    "CKA of what is kept with all prompts, on the test images: what each block "
                    "makes of class token and patches, and the logits. 1 is the same up to "
                    "rotation and scale.",
                    likeness,
                )
            ],
        ),
        Section("Attention", list(_attention(values["kept"], maps))),
        Section("Loss", loss(losses)),
    ]


def _worth(values: Mapping[str, Any]) -> Any:
    """Bars of the scores, of all blocks together."""
    kept = {(block, k) for block, own in enumerate(values["kept"]) for k in own}
    scores = {
        (block, k): score
        for block, own in enumerate(values["scores"])
        for k, score in enumerate(own)
    }
    order = sorted(scores, key=lambda one: -scores[one])
    parts = {
        name: [scores[one] if (one in kept) == is_kept else 0.0 for one in order]
        for name, is_kept in (("kept", True), ("taken away", False))
    }
    names = [f"block {b + 1}, prompt {k}" if values["deep"] else f"prompt {k}" for b, k in order]
    return bars(names, parts, "score")


def _costs(costs: Sequence[Mapping[str, Any]]) -> Iterator[Chart | Table]:
    prompts = [one["prompts"] for one in costs]
    for label, names in (
        ("clocks of a frame", ("clocks", "bound")),
        ("uJ", ("energy_uj",)),
        ("bytes", ("program_bytes",)),
        ("words", ("feature_words",)),
    ):
        chart = axes("prompts", label)
        lines(
            chart,
            prompts,
            {COSTS[name]: [one[name] for one in costs] for name in names},
            points=True,
        )
        yield Chart("With none, with what is kept, with all.", chart)
    yield Table(
        "The same as numbers, none, kept, all",
        ["prompts", "tokens of each block", *COSTS.values()],
        [
            [one["prompts"], " ".join(map(str, one["tokens"])), *(one[name] for name in COSTS)]
            for one in costs
        ],
    )


def _attention(kept: Sequence[Sequence[int]], maps: Sequence[Attention]) -> Iterator[Chart]:
    """Both maps of each block beside each other."""
    for block, both in enumerate(maps):
        own = kept[min(block, len(kept) - 1)]
        names = [*(f"prompt {k}" for k in own), "class"]
        names += [f"patch {k}" for k in range(N_TOKENS - 1)]
        top = float(max(both.real.max(), both.integer.max()))
        figures = [
            _map(names, probabilities, top, what)
            for what, probabilities in (("float", both.real), ("integer", both.integer))
        ]
        off = float(abs(both.real - both.integer).max())
        yield Chart(
            f"Block {block + 1}, first test image, mean of the heads: of which token each row "
            f"takes how much, with real numbers (left) and the chip's integers (right), both with "
            f"the parameters that were learned. They differ by at most {off:.4f}.",
            row(*figures, sizing_mode="stretch_width"),
        )


def _map(names: Sequence[str], probabilities: Matrix, top: float, what: str) -> Any:
    """Squares, as dark as a probability is near to the largest of both maps."""
    pairs = [(taker, taken) for taker in range(len(names)) for taken in range(len(names))]
    cells: dict[str, list[Any]] = {
        "row": [names[taker] for taker, _ in pairs],
        "column": [names[taken] for _, taken in pairs],
        "value": [float(probabilities[pair]) / top for pair in pairs],
        "probability": [float(probabilities[pair]) for pair in pairs],
    }
    tooltips = [("", "@row"), ("takes of", "@column"), ("share", "@probability{0.0000}")]
    chart, _, _ = heat_map(names, names, cells, (f"taken of, {what}", "token"), tooltips)
    chart.xaxis.major_label_orientation = "vertical"
    return chart
