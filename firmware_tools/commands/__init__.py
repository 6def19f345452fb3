"""The verbs of the command line, one module each: `command`, and the `EXAMPLES` of its help."""

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
    "fpga",
    "plot",
    "schema",
    "import",
    "export",
    "demo",
)
"""In the order in which `kenyon --help` shows them."""
GROUPS = {
    "search": (
        "Search a device for each layer, or a network in a federation.",
        ("devices", "architecture"),
    ),
    "prompts": ("Prompts of a transformer that kenyon train vit made.", ("condense",)),
}
"""Verbs whose subjects have options of their own, each a module `VERB_SUBJECT`."""
