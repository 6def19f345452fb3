"""`kenyon train digits --spiking`: trains, writes files, and says what came out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import typer
from rich.markup import escape

from firmware_tools import trainings
from firmware_tools.console import DIFFERENCE, Terminal
from firmware_tools.quantize.digits import Data, Part
from firmware_tools.quantize.policy import PolicyResult, PolicyTraining
from firmware_tools.quantize.spiking import SpikingTwin
from firmware_tools.quantize.spiking_training import (
    SpikingResult,
    SpikingSettings,
    SpikingTraining,
)
from firmware_tools.quantize.training import save_result
from model.mars import network_file, reference
from model.mars.config import CONFIGS, WORD_BYTES
from model.mars.mapper import compile_network
from model.mars.network import Conv, Dense, Layer, QuantizedNetwork


def train(
    settings: SpikingSettings,
    output: Path,
    policy: Path | None,
    report: Path | None,
    terminal: Terminal,
) -> None:
    """Train a network and, if `policy` is where it goes, what chooses its time steps."""
    loaded = settings.load()
    training = SpikingTraining(settings, loaded, trainings.checkpoint_of(output))
    trainings.run(training, terminal)
    result = training.finish()
    n_differ = write(settings, result, loaded.test, output)
    stored, alone = membrane_bytes(result.network)
    chooses = None
    if policy is not None:
        chooses = _train_policy(result.twin, loaded, policy, settings.seed, terminal)
    training.discard_checkpoint()
    values = {
        "data": "digits",
        **result.as_json(),
        "time_steps": settings.time_steps,
        "weight_bits": settings.weight_bits,
        "membrane_bits": settings.membrane_bits,
        "input_bits": result.network.input_type.bits,
        "events": settings.events,
        "share": settings.share,
        "membrane_bytes": stored,
        "membrane_bytes_if_nothing_was_shared": alone,
        "policy": None if chooses is None else {**chooses.as_json(), "output": str(policy)},
        "exit": None if settings.stop is None else ":".join(map(str, settings.stop)),
        "seed": settings.seed,
        "n_test": len(loaded.test),
        "equal": not n_differ,
        "output": str(output),
    }
    terminal.result(values)
    _print(terminal, result, output, n_differ, len(loaded.test))
    if chooses is not None:
        mean = f"{chooses.mean_steps:.2f} of {settings.time_steps} steps in the mean"
        terminal.print(f"with the policy     {chooses.accuracy:8.2%}, {mean}")
        terminal.print(escape(f"wrote {policy}"))
    trainings.write_report(report, values, training, terminal)
    if n_differ:
        raise typer.Exit(DIFFERENCE)


def _train_policy(
    spiking: SpikingTwin, data: Data, path: Path, seed: int, terminal: Terminal
) -> PolicyResult:
    training = PolicyTraining(spiking, data, trainings.checkpoint_of(path), seed=seed)
    trainings.run(training, terminal)
    result = training.finish()
    network_file.dump(result.network, path)
    training.discard_checkpoint()
    return result


def write(settings: SpikingSettings, result: SpikingResult, test: Part, output: Path) -> int:
    """Write everything; the number of integers in which the exported network differs."""
    network_file.dump(result.network, output)
    save_result(settings, result.model, result.twin, output.with_suffix(".pt"))
    images = result.twin.image_ints(test.images).astype(np.int16)
    trainings.write_tests(output, images, test.labels)
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


def _print(
    terminal: Terminal, result: SpikingResult, output: Path, n_differ: int, n_test: int
) -> None:
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
