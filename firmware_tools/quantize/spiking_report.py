"""`kenyon train digits --spiking`: what is written beside the network, and what is said."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.markup import escape

from firmware_tools.console import Terminal
from firmware_tools.quantize.digits import Part
from firmware_tools.quantize.spiking_training import SpikingResult, SpikingSettings
from firmware_tools.quantize.training import save_result
from firmware_tools.trainings import write_tests
from model.mars import network_file, reference
from model.mars.config import CONFIGS, WORD_BYTES
from model.mars.mapper import compile_network
from model.mars.network import Conv, Dense, Layer, QuantizedNetwork


def write(settings: SpikingSettings, result: SpikingResult, test: Part, output: Path) -> int:
    """Write everything; the number of integers in which the exported network differs."""
    network_file.dump(result.network, output)
    save_result(settings, result.model, result.twin, output.with_suffix(".pt"))
    images = result.twin.image_ints(test.images).astype(np.int16)
    write_tests(output, images, test.labels)
    return n_unequal(result, network_file.load(output), test)


def n_unequal(result: SpikingResult, network: QuantizedNetwork, test: Part) -> int:
    """Spikes, counts and logits of all layers, steps and images that are not the reference's."""
    ours = result.twin.integers(test.images)
    values = reference.run(network, result.twin.image_ints(test.images))
    return sum(int((ours[name] != wanted).sum()) for name, wanted in values.items())


def membrane_bytes(network: QuantizedNetwork) -> tuple[int, int]:
    """Bytes of membranes of a network that runs step by step, as the allocator has them.

    Returns
    -------
    int, int
        As they are; if nothing was shared.
    """
    alone = replace(network, layers=tuple(map(_alone, network.layers)))
    return _stored_bytes(network), _stored_bytes(alone)


def _alone(layer: Layer) -> Layer:
    if not isinstance(layer, Conv | Dense) or layer.neuron is None:
        return layer
    return replace(layer, neuron=replace(layer.neuron, membrane=None, groups=1))


def _stored_bytes(network: QuantizedNetwork) -> int:
    words = compile_network(network, CONFIGS["mars"], 1).contents.membrane_words
    return WORD_BYTES * sum(words.values())


def report(
    terminal: Terminal, result: SpikingResult, output: Path, n_differ: int, n_test: int
) -> None:
    """Say what came out."""
    for warning in result.network.warnings:
        terminal.warn(warning)
    terminal.print(f"real weights, 1 step{result.one_step_accuracy:8.2%}")
    for step, accuracy in enumerate(result.by_step, 1):
        terminal.print(f"after time step {step:<4}{accuracy:8.2%}")
    if result.exit_accuracy is not None:
        mean = f"{result.mean_steps:.2f} of {len(result.by_step)} steps in the mean"
        terminal.print(f"with the exit       {result.exit_accuracy:8.2%}, {mean}")
    shared, alone = membrane_bytes(result.network)
    if shared:
        times = f"{alone:,} if nothing was shared, {alone / shared:.2f}x"
        terminal.print(f"membranes, step by step {shared:,} bytes: {times}")
    if n_differ:
        terminal.print(f"[red]{n_differ:,} integers differ[/red]: kenyon diff {output}")
    else:
        terminal.print(f"every spike and logit equal on {n_test} test images")
    stem = output.with_suffix("")
    terminal.print(escape(f"wrote {output}, {stem}.pt, {stem}-images.npy, {stem}-labels.npy"))
