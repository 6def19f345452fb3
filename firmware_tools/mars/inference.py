"""Quantised networks on the reference, on the golden machine and on the RTL of MARS."""

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.mars import frame, reference
from model.mars.devices.bit_cells import Cells
from model.mars.devices.macros import DeviceMacros
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
        The network's result; that of the RTL is what the host read, but for maps of spikes that
        come chunk by chunk, which are as they were stored.
    passes : tuple of PassTime
        The input first; empty for the reference, which has no clocks.
    clocks : int or None
        Of the frame.
    logits : (time_steps, C, H, W) int64 or None
        Of a spiking network: summed over the steps so far; `output` is that of step `steps`, from 1
        on, behind which the network stops.
    steps : int
    policy_clocks : int or None
        Those of `clocks` in which a policy chose the steps; it has run before.
    """

    outputs: dict[str, Ints]
    output: Ints
    passes: tuple[PassTime, ...] = ()
    clocks: int | None = None
    logits: Ints | None = None
    steps: int = 0
    policy_clocks: int | None = None


def on_reference(network: QuantizedNetwork, inputs: Ints) -> Iterator[Inference]:
    """Images (N, C, H, W) on the reference."""
    for features in inputs:
        outputs = {name: maps[0] for name, maps in reference.run(network, features).items()}
        yield Inference(outputs, outputs[network.output])


def stopped(network: QuantizedNetwork, results: Iterator[Inference]) -> Iterator[Inference]:
    """Results of a spiking network behind the step that it takes last; others as they are."""
    for one in results:
        if not network.time_steps or one.steps:
            yield one
            continue
        logits = one.output
        (steps,) = steps_taken(network.exit, logits.reshape(1, len(logits), -1))
        yield _behind(one, int(steps))


def chosen_steps(output: Ints) -> int:
    """The time steps that a policy chooses by its results (steps, 1, 1), from 1 on."""
    return int(output.argmax()) + 1


def firing_by_step(network: QuantizedNetwork, one: Inference) -> dict[str, Floats]:
    """Share of the neurons of each spiking layer that fire in each step, (time_steps,)."""
    return {
        name: (values != 0).reshape(len(values), -1).mean(axis=1)
        for name, values in one.outputs.items()
        if network.types[name].is_spikes
    }


def on_model(
    image: Image,
    inputs: Ints,
    macros: DeviceMacros | None = None,
    cells: Cells | None = None,
) -> Iterator[Inference]:
    """Images on the golden machine, one after the other; macros or cells may be wrong."""
    for k, features in enumerate(inputs):
        yield _on_model(image, features, None if macros is None else macros.at(k), cells)


def _on_model(
    image: Image,
    features: Ints,
    macros: DeviceMacros | None = None,
    cells: Cells | None = None,
) -> Inference:
    done = frame.run_frame(image, features, macros=macros, cells=cells)
    outputs = pass_outputs(image, done.passes)
    ends = [one.clocks.end for one in done.passes]
    # What the host reads, as on the RTL: cells of the memory where it lies may be wrong.
    output = outputs[_output(image)] if image.n_chunks > 1 else done.result
    one = Inference(outputs, output, _times(image, ends), done.clocks)
    return one if done.logits is None else _decided(one, done.steps, done.logits)


def chosen_on_reference(
    network: QuantizedNetwork, policy: QuantizedNetwork, inputs: Ints
) -> Iterator[Inference]:
    """Images on the reference, each for so many time steps as a policy chooses for it."""
    chosen = on_reference(policy, inputs)
    for choice, one in zip(chosen, on_reference(network, inputs), strict=True):
        yield _behind(one, chosen_steps(choice.output))


def chosen_on_model(image: Image, policy: Image, inputs: Ints) -> Iterator[Inference]:
    """The same on the golden machine, where a policy is a frame of its own."""
    for features in inputs:
        choice = _on_model(policy, features)
        taking = image.taking(chosen_steps(choice.output))
        yield _with_choice(_on_model(taking, features), choice)


def chosen_on_rtl(image: Image, policy: Image, inputs: Ints) -> Iterator[Inference]:
    """The same on the RTL, two images on one chip; as `on_rtl`."""
    for trace in _in_groups(image, inputs, policy):
        assert trace.policy is not None
        choice = _inference(policy, trace.policy)
        taking = image.taking(chosen_steps(choice.output))
        yield _with_choice(_inference(taking, trace), choice)


def _with_choice(one: Inference, choice: Inference) -> Inference:
    assert one.clocks is not None
    assert choice.clocks is not None
    return replace(one, clocks=choice.clocks + one.clocks, policy_clocks=choice.clocks)


def _behind(one: Inference, steps: int) -> Inference:
    """The result behind a time step, from 1 on, of an output that has all of them."""
    return replace(one, output=one.output[steps - 1], logits=one.output, steps=steps)


def on_rtl(image: Image, inputs: Ints, cells: Cells | None = None) -> Iterator[Inference]:
    """Images on the RTL, several in one simulation if they are quick; the simulator must be built.

    Cells of the chip's memories may be wrong.

    Raises
    ------
    BenchFailure
        A frame did not end, or did not end well.
    """
    for trace in _in_groups(image, inputs, cells=cells):
        yield _inference(image, trace)


def _in_groups(
    image: Image, inputs: Ints, policy: Image | None = None, cells: Cells | None = None
) -> Iterator[FrameTrace]:
    first, n = 0, 1
    while first < len(inputs):
        part = inputs[first : first + n]
        begin = time.perf_counter()
        yield from frames_on_rtl(image, part, policy, cells=cells)
        first += n
        n = 2 * n if time.perf_counter() - begin < SHORT_SECONDS else 1


def _inference(image: Image, trace: FrameTrace) -> Inference:
    outputs, result = pass_outputs(image, trace.passes), trace.result
    output = outputs[_output(image)] if image.n_chunks > 1 else trace.output
    times = _times(image, [one.end for one in trace.passes])
    one = Inference(outputs, output, times, result.frame_clocks)
    if image.exit_registers is None:
        return one
    return _decided(one, result.steps, np.array(result.logits, np.int64))


def _decided(one: Inference, steps: int, logits: Ints) -> Inference:
    """With what a host finds behind a frame of the exit unit: steps and logits (classes,)."""
    return replace(one, output=logits[:, np.newaxis, np.newaxis], logits=one.output, steps=steps)


def frames_on_rtl(
    image: Image,
    inputs: Ints,
    policy: Image | None = None,
    recorded: Path | None = None,
    cells: Cells | None = None,
) -> list[FrameTrace]:
    """What the RTL did in one simulation with the golden machine's memory; raises as `on_rtl`.

    With `recorded` waves of all signals go there; with `cells` memories have wrong ones.
    """
    frames = [Frame(image, features, policy) for features in inputs]
    traces = list(cosim.run(image.config, frames, latency=LATENCY, recorded=recorded, cells=cells))
    for k, trace in enumerate(traces):
        for one in (trace.policy, trace):
            if one is not None and one.result.status != DONE:
                raise BenchFailure(
                    f"frame {k} must end with STATUS {DONE}, not {one.result.status}"
                )
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
    starts = image.starts_segment
    begins = [0 if starts[k % len(names)] else ends[k - 1] for k in range(len(ends))]
    return tuple(
        PassTime(names[k % len(names)], end - begin)
        for k, (begin, end) in enumerate(zip(begins, ends, strict=True))
    )
