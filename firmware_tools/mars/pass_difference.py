"""The first place in which the reference, the golden machine and the RTL of MARS differ."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.mars.inference import DONE
from model.mars import reference
from model.mars.config import KERNELS
from model.mars.frame import FrameRun, PassRecord, PassRun, layer_outputs, rows_of, run_frame
from model.mars.image import Image
from model.mars.layout import Descriptor, Ints
from model.mars.machine import HALF, MembraneWrites, Writes
from model.mars.mapper import prepared
from model.mars.network import RAW_BITS, QuantizedNetwork
from tb.mars.cosim import FrameTrace
from tb.mars.records import Clocks, PassTrace
from tb.waves import Moment

AXES = ("time step", "channel", "row", "column")
"""Of results; those that do not change in time have no first one."""
HALF_MASKS = np.array([0, 0xFFFF_FFFF, 0xFFFF_FFFF << 32, (1 << 64) - 1], np.uint64)
"""Bits of a word that are written, by `Writes.halves`."""
STALLS = ("weight_stalls", "drain_stalls", "layer_stalls")
PORTS = "trace_mars"
"""How the trace ports of MARS begin."""
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
    ns : int, optional
        When the RTL showed it: the begin of that clock.
    """

    expected_by: str
    actual_by: str
    place: str
    what: str
    expected: int
    actual: int
    position: Mapping[str, int] = field(default_factory=dict)
    ns: int | None = None

    def __str__(self) -> str:
        where = ", ".join([self.place, *(f"{name} {k}" for name, k in self.position.items())])
        return (
            f"{where}: {self.what} must be {self.expected} ({self.expected_by}), "
            f"not {self.actual} ({self.actual_by})"
        )


def moment_of(difference: Difference) -> Moment | None:
    """What a view of the waves opens on."""
    return None if difference.ns is None else Moment(difference.ns, PORTS)


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
    network = prepared(network)
    expected = reference.run(network, features)
    for number, runs in enumerate(run_frame(image, features).chunks):
        right = _of_chunk(network, image, expected, number)
        for k, model in enumerate(runs):
            difference = _in_results(image, k, right, model, compared)
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
    network = prepared(network)
    expected = reference.run(network, features)
    golden = run_frame(image, features)
    all_passes = iter(trace.passes)
    for number, runs in enumerate(golden.chunks):
        right = _of_chunk(network, image, expected, number)
        begin = 0
        for k, (model, rtl) in enumerate(zip(runs, all_passes, strict=False)):
            if image.starts_segment[k]:
                begin = 0
            difference = _in_results(image, k, right, model, compared)
            if difference is None:
                difference = _in_pass(image, k, model, rtl, compared)
            if difference is None and model.clocks.clocks != rtl.end - begin:
                actual = rtl.end - begin
                difference = _differs(_place(image, k), "clocks", model.clocks.clocks, actual)
            if difference:
                return _timed(difference, rtl.times.end)
            begin = rtl.end
            compared.passes += 1
            compared.clocks += model.clocks.clocks
    difference = _in_frame(network, right[network.output][0], golden, trace)
    return difference and _timed(difference, trace.passes[-1].times.end)


def _timed(difference: Difference, ns: int) -> Difference:
    """At this time, if nothing better is known."""
    return replace(difference, ns=ns) if difference.ns is None else difference


def _of_chunk(
    network: QuantizedNetwork, image: Image, expected: Mapping[str, Ints], number: int
) -> dict[str, Ints]:
    """Results of the time steps of a chunk; logits are counted from its first one on."""
    if image.chunk_steps >= network.time_steps:
        return dict(expected)
    first = number * image.chunk_steps
    steps = slice(first, first + image.chunk_steps)
    result = {
        name: values[:, steps] if network.types[name].time_steps else values
        for name, values in expected.items()
    }
    if first and network.types[network.output].bits == RAW_BITS:
        result[network.output] = (
            result[network.output] - expected[network.output][:, first - 1 : first]
        )
    return result


def _in_results(
    image: Image, k: int, expected: Mapping[str, Ints], model: PassRun, compared: Compared
) -> Difference | None:
    """Reference against golden machine."""
    outputs = _outputs(image, k, model)
    rows = rows_of(image.passes[k - 1].descriptor, image.contents.passes[k - 1]) if k else {}
    right = {
        name: _as_computed(expected[name][0][..., rows[name], :], outputs[name]) for name in outputs
    }
    # Of a last chunk there may be steps that do not count.
    outputs = {name: values[: len(right[name])] for name, values in outputs.items()}
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
    lanes = _lanes(model.program.descriptor)
    times = rtl.times
    checks: list[tuple[str, NDArray[Any], NDArray[Any], Clocks]] = [
        ("drained value", model.values[:, :lanes], rtl.values[:, :lanes], times.values),
        ("row", model.writes.row, rtl.writes.row, times.writes),
        ("offset", model.writes.offset, rtl.writes.offset, times.writes),
        ("halves", model.writes.halves, rtl.writes.halves, times.writes),
        ("stored word", _written(model.writes), _written(rtl.writes), times.writes),
    ]
    if model.membranes is not None and rtl.membranes is not None:
        # One for each group of channels that share it.
        first = slice(0, lanes, model.program.descriptor.groups)
        there = _has_kernel(image, k)[:, first]
        expected = _where(there, model.membranes[:, first])
        actual = _where(there, rtl.membranes[:, first])
        checks.insert(1, ("membrane", expected, actual, times.values))
    if model.stores is not None or rtl.stores is not None:
        own = _own_nibbles(model.program.descriptor, _has_kernel(image, k))
        checks += [(*check, times.stores) for check in _stores(model.stores, rtl.stores, own)]
    compared.drained += checks[0][1].size
    compared.words += len(model.writes.word)
    for what, expected, actual, begins in checks:
        axes = ("pixel", "lane") if expected.ndim > 1 else ("write",)
        if len(expected) != len(actual):
            number = f"number of {axes[0]}s"
            too_many = _time(begins, len(expected))
            return _differs(_place(image, k), number, len(expected), len(actual), ns=too_many)
        at = _first(expected, actual)
        if at is None:
            continue
        ns = _time(begins, at[0])
        if what in NAMED:
            # What was checked before is equal; what comes later may be anything.
            writes = rtl.writes if what == "stored word" else model.writes
            outputs = _outputs(image, k, replace(rtl, writes=writes))
            named = _in_layers(_outputs(image, k, model), outputs, "model", "rtl")
            if named:
                return replace(named, ns=ns)
        where = dict(zip(axes, at, strict=True))
        return _differs(_place(image, k), what, int(expected[at]), int(actual[at]), where, ns)
    return None


def _time(begins: Clocks, k: int) -> int | None:
    """When the k-th thing was, if it was at all and a simulator did it."""
    return int(begins[k]) if k < len(begins) else None


def _lanes(d: Descriptor) -> int:
    """Of a kernel block: 8-bit weights take two columns."""
    return HALF if d.wide else KERNELS


def _has_kernel(image: Image, k: int) -> NDArray[np.bool_]:
    """Which lanes of each kernel block have one.

    The others never fire, but if their membranes are read, it is what happened to be in memory.
    """
    d = image.passes[k - 1].descriptor
    lanes = _lanes(d)
    n_channels = image.contents.passes[k - 1].outputs[0].shape[0]
    return (np.arange(d.n_kernel_blocks * lanes) < n_channels).reshape(-1, lanes)


def _where(there: NDArray[np.bool_], values: Ints) -> Ints:
    """Values of lanes that are there, the pixels of a kernel block behind those of the other."""
    return np.where(np.repeat(there, len(values) // len(there), axis=0), values, 0)


def _own_nibbles(d: Descriptor, there: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Of each kernel block, which bits of its words of membranes are those of channels."""
    own = there[:, :: d.groups]
    n, n_parts = own.shape[1], 1 << d.u_parts_log2
    masks = [
        sum(0xF << 4 * (block % n_parts * n + int(j)) for j in np.flatnonzero(row))
        for block, row in enumerate(own)
    ]
    return np.array(masks, np.uint64)


def _stores(
    model: MembraneWrites | None, rtl: MembraneWrites | None, own: NDArray[np.uint64]
) -> list[tuple[str, NDArray[Any], NDArray[Any]]]:
    """What is compared of membranes that are stored, the macros one behind the other.

    `own` are the bits of each kernel block that are.
    """
    nothing = np.zeros(0, np.int64)
    none = MembraneWrites(nothing, nothing, nothing.astype(np.uint64), nothing)
    columns = []
    for stores in (model or none, rtl or none):
        order = np.argsort(stores.macro, kind="stable")
        masks = [sum(0xFF << 8 * k for k in range(8) if mask >> k & 1) for mask in stores.mask]
        n_words = len(stores.word)
        block = np.arange(n_words) * len(own) // max(n_words, 1)
        written = stores.word & np.array(masks, np.uint64) & own[block]
        columns.append([x[order] for x in (stores.macro, stores.address, stores.mask, written)])
    names = (f"{part} of stored membranes" for part in ("macro", "address", "bytes", "word"))
    return list(zip(names, *columns, strict=True))


def _in_frame(
    network: QuantizedNetwork, expected: Ints, golden: FrameRun, trace: FrameTrace
) -> Difference | None:
    """What the host sees: registers, and the result in the feature memory."""
    result, runs = trace.result, golden.passes
    registers = {
        "STATUS": (DONE, result.status),
        "number of passes": (len(runs), len(trace.passes)),
        "FRAME_CLOCKS": (golden.clocks, result.frame_clocks),
        **{
            name.upper(): (sum(getattr(one.clocks, name) for one in runs), getattr(result, name))
            for name in STALLS
        },
    }
    if golden.logits is not None:
        registers["STEPS_TAKEN"] = golden.steps, result.steps
        for k, pair in enumerate(zip(golden.logits.tolist(), result.logits, strict=True)):
            registers[f"logit {k}"] = pair
    for name, (right, actual) in registers.items():
        if right != actual:
            return _differs("frame", name, right, actual)
    outputs = {network.output: trace.output[: len(expected)]}
    return _in_layers({network.output: expected}, outputs, "reference", "rtl")


def _place(image: Image, k: int) -> str:
    return f"pass {', '.join(map(repr, image.contents.passes[k - 1].layers))}" if k else "input"


def _differs(
    place: str,
    what: str,
    expected: int,
    actual: int,
    where: Mapping[str, int] | None = None,
    ns: int | None = None,
) -> Difference:
    return Difference("model", "rtl", place, what, expected, actual, where or {}, ns)


def _written(writes: Writes) -> NDArray[np.uint64]:
    return writes.word & HALF_MASKS[writes.halves]


def _first(expected: NDArray[Any], actual: NDArray[Any]) -> tuple[int, ...] | None:
    """Index of the first difference of arrays of one shape."""
    wrong = np.argwhere(expected != actual)
    return tuple(int(i) for i in wrong[0]) if len(wrong) else None
