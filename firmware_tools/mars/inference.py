"""Quantised networks on the reference, on the golden machine and on the RTL of MARS."""

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.mars import frame, reference
from model.mars.early_exit import steps_taken
from model.mars.frame import LATENCY, PassRecord, layer_outputs, rows_of
from model.mars.image import Image
from model.mars.layout import Ints
from model.mars.network import QuantizedNetwork
from tb.mars import cosim
from tb.mars.cosim import Frame, FrameTrace
from tb.simulator import BenchFailure

Floats = NDArray[np.float64]
Backend = Literal["reference", "model", "rtl"]
DONE = 0b0010
"""STATUS of a frame that ended well."""
SHORT_SECONDS = 10.0
"""A simulation that took less is followed by one of twice as many images."""


@dataclass(frozen=True)
class PassTime:
    """A pass: its layers (none for the input), and its clocks since the end of the one before."""

    layers: tuple[str, ...]
    clocks: int


@dataclass(frozen=True)
class Inference:
    """What became of an image.

    Parameters
    ----------
    outputs : {str: (C, H, W) int64}
        Results of the layers, in order, as far as the backend shows them
        (`model.mars.frame.layer_outputs`).
    output : (C, H, W) int64
        The network's result; that of the RTL is what the host read.
    passes : tuple of PassTime
        The input first; empty for the reference, which has no clocks.
    clocks : int or None
        Of the frame.
    logits : (time_steps, C, H, W) int64 or None
        Of a spiking network: summed over the steps so far; `output` is that of step `steps`, from 1
        on, behind which the network stops.
    steps : int
    """

    outputs: dict[str, Ints]
    output: Ints
    passes: tuple[PassTime, ...] = ()
    clocks: int | None = None
    logits: Ints | None = None
    steps: int = 0


def on_reference(network: QuantizedNetwork, inputs: Ints) -> Iterator[Inference]:
    """Images (N, C, H, W) on the reference."""
    for features in inputs:
        outputs = {name: maps[0] for name, maps in reference.run(network, features).items()}
        yield Inference(outputs, outputs[network.output])


def stopped(network: QuantizedNetwork, results: Iterator[Inference]) -> Iterator[Inference]:
    """Results of a spiking network behind the step that it takes last; others as they are."""
    for one in results:
        if not network.time_steps:
            yield one
            continue
        logits = one.output
        (steps,) = steps_taken(network.exit, logits.reshape(1, len(logits), -1))
        yield replace(one, output=logits[steps - 1], logits=logits, steps=int(steps))


def firing_by_step(network: QuantizedNetwork, one: Inference) -> dict[str, Floats]:
    """Share of the neurons of each spiking layer that fire in each step, (time_steps,)."""
    return {
        name: (values != 0).reshape(len(values), -1).mean(axis=1)
        for name, values in one.outputs.items()
        if network.types[name].is_spikes
    }


def on_model(image: Image, inputs: Ints) -> Iterator[Inference]:
    """Images on the golden machine, one after the other."""
    for features in inputs:
        done = frame.run_frame(image, features)
        outputs = pass_outputs(image, done.passes)
        ends = [one.clocks.end for one in done.passes]
        yield Inference(outputs, outputs[_output(image)], _times(image, ends), done.clocks)


def on_rtl(image: Image, inputs: Ints) -> Iterator[Inference]:
    """Images on the RTL, several in one simulation if they are quick; the simulator must be built.

    Raises
    ------
    BenchFailure
        A frame did not end, or did not end well.
    """
    first, n = 0, 1
    while first < len(inputs):
        part = inputs[first : first + n]
        begin = time.perf_counter()
        for trace in frames_on_rtl(image, part):
            outputs = pass_outputs(image, trace.passes)
            output = outputs[_output(image)] if image.n_chunks > 1 else trace.output
            times = _times(image, [one.end for one in trace.passes])
            yield Inference(outputs, output, times, trace.result.frame_clocks)
        first += n
        n = 2 * n if time.perf_counter() - begin < SHORT_SECONDS else 1


def frames_on_rtl(image: Image, inputs: Ints) -> list[FrameTrace]:
    """What the RTL did in one simulation with the golden machine's memory; raises as `on_rtl`."""
    frames = [Frame(image, features) for features in inputs]
    traces = list(cosim.run(image.config, frames, latency=LATENCY))
    for k, trace in enumerate(traces):
        if trace.result.status != DONE:
            raise BenchFailure(f"frame {k} must end with STATUS {DONE}, not {trace.result.status}")
    return traces


def _output(image: Image) -> str:
    return image.contents.passes[-1].layers[-1]


def pass_outputs(image: Image, records: Sequence[PassRecord]) -> dict[str, Ints]:
    """Results of the layers out of what a machine did; the input's record comes first.

    The time steps of chunks come one behind the other, logits are summed over all of them.
    """
    n_passes = 1 + len(image.passes)
    chunks = [
        _outputs(image, records[first : first + n_passes])
        for first in range(0, len(records), n_passes)
    ]
    if len(chunks) == 1:
        return chunks[0]
    if image.passes[-1].descriptor.raw:
        name = _output(image)
        for before, after in itertools.pairwise(chunks):
            after[name] = after[name] + before[name][-1]
    in_time = {
        name
        for one, contents in zip(image.passes, image.contents.passes, strict=True)
        if one.descriptor.timed
        for name in contents.layers
    }
    return {
        name: (
            np.concatenate([chunk[name] for chunk in chunks])[: image.contents.time_steps]
            if name in in_time
            else values
        )
        for name, values in chunks[0].items()
    }


def _outputs(image: Image, records: Sequence[PassRecord]) -> dict[str, Ints]:
    """Those of one run of the program."""
    bands: dict[str, list[tuple[Ints, Ints]]] = {}
    for one, contents, record in zip(image.passes, image.contents.passes, records[1:], strict=True):
        rows = rows_of(one.descriptor, contents)
        for name, values in layer_outputs(one.descriptor, contents, record).items():
            bands.setdefault(name, []).append((rows[name], values))
    return {name: _whole(parts) for name, parts in bands.items()}


def _whole(bands: list[tuple[Ints, Ints]]) -> Ints:
    """A map out of its bands, some rows of which may be in two of them."""
    *channels, _, n_cols = bands[0][1].shape
    n_rows = 1 + max(int(rows.max()) for rows, _ in bands)
    result = np.zeros((*channels, n_rows, n_cols), np.int64)
    for rows, values in bands:
        result[..., rows, :] = values
    return result


def _times(image: Image, ends: list[int]) -> tuple[PassTime, ...]:
    """Clocks of the passes, those of chunks one behind the other."""
    names = [(), *(one.layers for one in image.contents.passes)]
    begins = [0 if k % len(names) == 0 else ends[k - 1] for k in range(len(ends))]
    return tuple(
        PassTime(names[k % len(names)], end - begin)
        for k, (begin, end) in enumerate(zip(begins, ends, strict=True))
    )
