"""The verbs of the command line, one module each: `command`, and the `EXAMPLES` of its help."""

from typing import NamedTuple

NAMES = (
    "generate",
    "compile",
    "inspect",
    "run",
    "infer",
    "compare",
    "regress",
    "prove",
    "mutate",
    "cluster",
    "avoid",
    "train",
    "prompts",
    "diff",
    "bench",
    "benchmark",
    "similarity",
    "adapt",
    "search",
    "zoo",
    "ppa",
    "layout",
    "fpga",
    "plot",
    "schema",
    "import",
    "export",
    "demo",
)
"""In the order in which `kenyon --help` shows them."""


class Group(NamedTuple):
    """A verb whose subjects have options of their own, each a module `VERB_SUBJECT`.

    Attributes
    ----------
    about : str
        Its help.
    subjects : tuple of str
    default : str
        The subject if none is named; empty if one must be.
    """

    about: str
    subjects: tuple[str, ...]
    default: str = ""


GROUPS = {
    "train": Group(
        "Train a network with quantised weights and activations, and export its integers.",
        ("digits", "avoid", "vit"),
    ),
    "prompts": Group("Prompts of a transformer that kenyon train vit made.", ("condense",)),
    "bench": Group(
        "Measure the figures that the project promises: speed, clocks, equality.",
        (
            "npu",
            "mars",
            "quantizers",
            "spiking-training",
            "adaptation",
            "devices",
            "federation",
            "prompts",
        ),
        default="npu",
    ),
    "search": Group(
        "Search a device for each layer, or a network in a federation.",
        ("devices", "architecture"),
    ),
}
