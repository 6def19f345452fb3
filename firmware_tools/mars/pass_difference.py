"""The first place in which the reference, the golden machine and the RTL of MARS differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.mars.inference import DONE
from model.mars import reference
from model.mars.config import KERNELS
from model.mars.frame import PassRecord, PassRun, layer_outputs, rows_of, run
from model.mars.image import Image
from model.mars.layout import Ints
from model.mars.machine import HALF, Writes
from model.mars.network import QuantizedNetwork
from tb.mars.cosim import FrameTrace
from tb.mars.records import PassTrace

AXES = ("time step", "channel", "row", "column")
"""Of results; those that do not change in time have no first one."""
HALF_MASKS = np.array([0, 0xFFFF_FFFF, 0xFFFF_FFFF << 32, (1 << 64) - 1], np.uint64)
"""Bits of a word that are written, by `Writes.halves`."""
STALLS = ("weight_stalls", "drain_stalls", "layer_stalls")
NAMED = ("drained value", "stored word")
"""Differences that are told as one of a layer, if it shows there."""


@dataclass(frozen=True)
class Difference:
    """What differs first.

    Parameters
    ----------
    expected_by, actual_by : str
        Backends.
    place : str
        "layer 'conv1'", "pass 'conv1', 'pool1'", "input", or "frame".
    what : str
        `value` of a layer; `drained value`, `membrane` or `stored word` of a pass, in order; what
        is stored: `row`, `offset`, `halves`; `clocks`; `number of ...`; a register of the frame.
    position : {str: int}
        Time step, channel, row and column; pixel and lane; or write.
    expected, actual : int
    """

    expected_by: str
    actual_by: str
    place: str
    what: str
    expected: int
    actual: int
    position: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        where = ", ".join([self.place, *(f"{name} {k}" for name, k in self.position.items())])
        return (
            f"{where}: {self.what} must be {self.expected} ({self.expected_by}), "
            f"not {self.actual} ({self.actual_by})"
        )


@dataclass
class Compared:
    """How much was compared and found equal.

    Parameters
    ----------
    values : int
        Results of layers, reference against golden machine.
    drained, words : int
        Results as they left the convolution and feature words as they were stored, golden machine
        against RTL.
    passes, clocks : int
        Passes, the input's included, and their clocks.
    """

    values: int = 0
    drained: int = 0
    words: int = 0
    passes: int = 0
    clocks: int = 0


def compare_model(
    network: QuantizedNetwork, image: Image, features: Ints, compared: Compared
) -> Difference | None:
    """Reference = golden machine in one frame; `compared` grows by what is equal."""
    expected = reference.run(network, features)
    for k, model in enumerate(run(image, features)):
        difference = _in_results(image, k, expected, model, compared)
        if difference:
            return difference
        compared.passes += 1
        compared.clocks += model.clocks.clocks
    return None


def compare_frame(
    network: QuantizedNetwork,
    image: Image,
    features: Ints,
    trace: FrameTrace,
    compared: Compared,
) -> Difference | None:
    """Reference = golden machine = RTL in one frame; `compared` grows by what is equal.

    Pass by pass: the layers' results of the reference and the golden machine, then everything of
    the golden machine and the RTL.
    """
    expected = reference.run(network, features)
    runs = list(run(image, features))
    begin = 0
    for k, (model, rtl) in enumerate(zip(runs, trace.passes, strict=True)):
        difference = _in_results(image, k, expected, model, compared)
        if difference is None:
            difference = _in_pass(image, k, model, rtl, compared)
        if difference is None and model.clocks.clocks != rtl.end - begin:
            actual = rtl.end - begin
            difference = _differs(_place(image, k), "clocks", model.clocks.clocks, actual)
        if difference:
            return difference
        begin = rtl.end
        compared.passes += 1
        compared.clocks += model.clocks.clocks
    return _in_frame(network, expected[network.output][0], runs, trace)


def _in_results(
    image: Image, k: int, expected: Mapping[str, Ints], model: PassRun, compared: Compared
) -> Difference | None:
    """Reference against golden machine."""
    outputs = _outputs(image, k, model)
    rows = rows_of(image.passes[k - 1].descriptor, image.contents.passes[k - 1]) if k else {}
    right = {
        name: _as_computed(expected[name][0][..., rows[name], :], outputs[name]) for name in outputs
    }
    compared.values += sum(values.size for values in outputs.values())
    return _in_layers(right, outputs, "reference", "model")


def _outputs(image: Image, k: int, record: PassRecord) -> dict[str, Ints]:
    """Results of the layers of pass k; the input, pass 0, has none."""
    if not k:
        return {}
    return layer_outputs(image.passes[k - 1].descriptor, image.contents.passes[k - 1], record)


def _as_computed(values: Ints, computed: Ints) -> Ints:
    """Without the odd last row and column that a pool leaves out."""
    return values[..., : computed.shape[-2], : computed.shape[-1]]


def _in_layers(
    expected: Mapping[str, Ints], actual: Mapping[str, Ints], expected_by: str, actual_by: str
) -> Difference | None:
    for name, right in expected.items():
        at = _first(right, actual[name])
        if at is not None:
            where = dict(zip(AXES[-len(at) :], at, strict=True))
            values = int(right[at]), int(actual[name][at])
            return Difference(expected_by, actual_by, f"layer {name!r}", "value", *values, where)
    return None


def _in_pass(
    image: Image, k: int, model: PassRun, rtl: PassTrace, compared: Compared
) -> Difference | None:
    """Golden machine against RTL, all but the clocks: by layer, or else in the order of events."""
    lanes = HALF if model.program.descriptor.wide else KERNELS
    checks: list[tuple[str, NDArray[Any], NDArray[Any]]] = [
        ("drained value", model.values[:, :lanes], rtl.values[:, :lanes]),
        ("row", model.writes.row, rtl.writes.row),
        ("offset", model.writes.offset, rtl.writes.offset),
        ("halves", model.writes.halves, rtl.writes.halves),
        ("stored word", _written(model.writes), _written(rtl.writes)),
    ]
    if model.membranes is not None and rtl.membranes is not None:
        # One for each group of channels that share it.
        first = slice(0, lanes, model.program.descriptor.groups)
        checks.insert(1, ("membrane", model.membranes[:, first], rtl.membranes[:, first]))
    compared.drained += checks[0][1].size
    compared.words += len(model.writes.word)
    for what, expected, actual in checks:
        axes = ("pixel", "lane") if expected.ndim > 1 else ("write",)
        if len(expected) != len(actual):
            number = f"number of {axes[0]}s"
            return _differs(_place(image, k), number, len(expected), len(actual))
        at = _first(expected, actual)
        if at is None:
            continue
        if what in NAMED:
            # What was checked before is equal; what comes later may be anything.
            writes = rtl.writes if what == "stored word" else model.writes
            outputs = _outputs(image, k, replace(rtl, writes=writes))
            named = _in_layers(_outputs(image, k, model), outputs, "model", "rtl")
            if named:
                return named
        where = dict(zip(axes, at, strict=True))
        return _differs(_place(image, k), what, int(expected[at]), int(actual[at]), where)
    return None


def _in_frame(
    network: QuantizedNetwork, expected: Ints, runs: Sequence[PassRun], trace: FrameTrace
) -> Difference | None:
    """What the host sees: registers, and the result in the feature memory."""
    result = trace.result
    registers = {
        "STATUS": (DONE, result.status),
        "FRAME_CLOCKS": (runs[-1].clocks.end, result.frame_clocks),
        **{
            name.upper(): (sum(getattr(one.clocks, name) for one in runs), getattr(result, name))
            for name in STALLS
        },
    }
    for name, (right, actual) in registers.items():
        if right != actual:
            return _differs("frame", name, right, actual)
    return _in_layers(
        {network.output: expected}, {network.output: trace.output}, "reference", "rtl"
    )


def _place(image: Image, k: int) -> str:
    return f"pass {', '.join(map(repr, image.contents.passes[k - 1].layers))}" if k else "input"


def _differs(
    place: str, what: str, expected: int, actual: int, where: Mapping[str, int] | None = None
) -> Difference:
    return Difference("model", "rtl", place, what, expected, actual, where or {})


def _written(writes: Writes) -> NDArray[np.uint64]:
    return writes.word & HALF_MASKS[writes.halves]


def _first(expected: NDArray[Any], actual: NDArray[Any]) -> tuple[int, ...] | None:
    """Index of the first difference of arrays of one shape."""
    wrong = np.argwhere(expected != actual)
    return tuple(int(i) for i in wrong[0]) if len(wrong) else None
