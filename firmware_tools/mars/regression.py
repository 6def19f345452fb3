"""Random quantised networks in a regression: reference = golden machine, and = RTL."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firmware_tools.mars.inference import DONE
from firmware_tools.mars.pass_difference import Compared, compare_frame, compare_model
from model.mars import network_file
from model.mars.config import MarsConfig
from model.mars.image import Image
from model.mars.layout import Ints
from model.mars.mapper import FitError, compile_network
from model.mars.network import QuantizedNetwork
from model.mars.random_attention import random_attention_network
from model.mars.random_network import random_input, random_network
from model.mars.random_spiking import random_spiking_network
from tb.mars import cosim
from tb.mars.cosim import Frame
from tb.simulator import BenchFailure

BATCH = 10
"""Networks of one simulation, whose start takes longer than they do."""
DEEP_EVERY = 2
"""Every so many networks of a chip with several macros need them all for one block of kernels."""
DEEP = {"max_channels": 256, "max_size": 8, "max_sets": 512}
CHUNKS = (0, 1, 0, 2, 0, 4, 0, 1, 0, 3)
"""Time steps of spiking networks that are taken at once, 0 is all."""
SPILLED_EVERY = 3
"""Every so many networks of a chip with small memories have maps that do not fit."""
SPILLED = {"max_channels": 32, "max_size": 24, "max_layers": 6}
SPILLED_TRIES = 8
"""Networks of which one may not fit."""
TOKENS = (40, 24, 12, 6, 3, 1)
"""Tokens of attention, one after the other until it fits."""
LONG_EVERY = 10
"""Every so many have more tokens and fewer channels."""
LONG = (256, 12)
SMALL_WORDS = 1024
SMALLER = (12, 8, 6, 4, 2, 1)
"""Rows and columns that a network may have, one after the other until it fits."""


@dataclass(frozen=True)
class Network:
    """A random network with its input, compiled."""

    network: QuantizedNetwork
    image: Image
    features: Ints

    def save(self, folder: Path) -> None:
        """Leave the network and its input in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        network_file.dump(self.network, folder / "network.npz")
        np.save(folder / "input.npy", self.features)

    def command(self, folder: Path) -> str:
        """Compares what `save` left."""
        files = [str(folder / "network.npz"), "--input", str(folder / "input.npy")]
        chunk = self.image.contents.chunk
        files += ["--chunk", str(chunk)] if chunk else []
        return shlex.join(["kenyon", "compare", *files, "-c", self.image.config.name])


def random_case(config: MarsConfig, seed: int) -> Network:
    """The network of a seed; one that does not fit is drawn again with smaller maps."""
    if config.feature_words <= SMALL_WORDS and seed % SPILLED_EVERY == 0:
        spilled = _spilled_case(config, seed)
        if spilled is not None:
            return spilled
    is_deep = config.n_macros > 1 and seed % DEEP_EVERY == 0
    for size in SMALLER:
        limits = (
            {**DEEP, "max_size": min(size, DEEP["max_size"])} if is_deep else {"max_size": size}
        )
        network = random_network(seed, wide=config.wide_multiplier, **limits)
        try:
            image = compile_network(network, config)
        except FitError:
            continue
        return Network(network, image, random_input(network, seed)[0])
    raise BenchFailure(f"a random network must fit {config.name}, but that of seed {seed} does not")


def _spilled_case(config: MarsConfig, seed: int) -> Network | None:
    """A network with maps in memory, the first of some; None if all of them fit, or none does."""
    for number in range(SPILLED_TRIES):
        network = random_network(
            SPILLED_TRIES * seed + number, wide=config.wide_multiplier, **SPILLED
        )
        try:
            image = compile_network(network, config)
        except FitError:
            continue
        if len(image.segments) > 1:
            return Network(network, image, random_input(network, seed)[0])
    return None


def random_spiking_case(config: MarsConfig, seed: int) -> Network:
    """The spiking network of a seed; one that does not fit is drawn again with smaller maps.

    Half of them take all steps at once, the others in chunks of 1 to 4; in some of those of 1
    layers share membranes.
    """
    chunk = CHUNKS[seed % len(CHUNKS)]
    for size in SMALLER:
        network = random_spiking_network(seed, max_size=size, share_layers=chunk == 1)
        try:
            image = compile_network(network, config, chunk)
        except FitError:
            continue
        return Network(network, image, random_input(network, seed)[0])
    raise BenchFailure(
        f"a spiking network must fit {config.name}, but that of seed {seed} does not"
    )


def random_attention_case(config: MarsConfig, seed: int) -> Network:
    """The attention of a seed; one that does not fit is drawn again with fewer tokens."""
    sizes = [(n_tokens, 48) for n_tokens in TOKENS]
    if seed % LONG_EVERY == 0:
        sizes.insert(0, LONG)
    for n_tokens, n_channels in sizes:
        network = random_attention_network(
            seed, max_tokens=n_tokens, max_channels=n_channels, wide=config.wide_multiplier
        )
        try:
            image = compile_network(network, config)
        except FitError:
            continue
        return Network(network, image, random_input(network, seed)[0])
    raise BenchFailure(f"attention must fit {config.name}, but that of seed {seed} does not")


def on_model(case: Network) -> tuple[str, Compared]:
    """Reference = golden machine: the first difference, if any, and how much was equal."""
    compared = Compared()
    difference = compare_model(case.network, case.image, case.features, compared)
    return str(difference or ""), compared


def on_rtl(config: MarsConfig, cases: Sequence[Network]) -> list[tuple[str, Compared]]:
    """Reference = golden machine = RTL, network by network in one simulation.

    If that fails, each one runs alone: only those that fail again are to blame. If none does, the
    failure needs all of them.
    """
    try:
        found = list(_on_rtl(config, cases))
    except BenchFailure as failure:
        found = [(str(failure), Compared())] if len(cases) == 1 else _alone(config, cases, failure)
    return found


def _alone(
    config: MarsConfig, cases: Sequence[Network], failure: BenchFailure
) -> list[tuple[str, Compared]]:
    found = [on_rtl(config, [case])[0] for case in cases]
    if any(difference for difference, _ in found):
        return found
    names = ", ".join(case.network.name for case in cases)
    return [(f"fails in one simulation of {names}: {failure}", equal) for _, equal in found]


def _on_rtl(config: MarsConfig, cases: Sequence[Network]) -> Iterator[tuple[str, Compared]]:
    frames = [Frame(case.image, case.features) for case in cases]
    for case, trace in zip(cases, cosim.run(config, frames), strict=True):
        if trace.result.status != DONE:
            raise BenchFailure(f"frame must end with STATUS {DONE}, not {trace.result.status}")
        compared = Compared()
        difference = compare_frame(case.network, case.image, case.features, trace, compared)
        yield str(difference or ""), compared
