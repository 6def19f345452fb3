"""What a host writes for frames in chunks of time steps, and when such a frame stops."""

from dataclasses import replace

import numpy as np
import pytest

from model.mars import frame, reference
from model.mars.config import CONFIGS
from model.mars.early_exit import MAX_CLASSES, Table, exit_clocks
from model.mars.lowering import FitError, chunk_of
from model.mars.mapper import compile_network
from model.mars.network import Dense, FeatureType, QuantizedNetwork
from model.mars.neuron import Exit, Neuron
from model.mars.random_network import random_input
from model.mars.time_registers import packet_stride, time_registers

TINY = CONFIGS["mars-tiny"]


def network(
    time_steps: int, *, coding: str = "spikes", n_classes: int = 10, stop: Exit | None = None
) -> QuantizedNetwork:
    rng = np.random.default_rng(5)
    neuron = Neuron(bits=8, threshold=np.full(20, 3), reset="soft")
    bits = 1 if coding == "spikes" else 4
    hidden = Dense(
        name="hidden",
        input="input",
        weight=rng.integers(-8, 8, (20, 64)),
        bias=np.zeros(20, np.int64),
        weight_bits=4,
        out_bits=1,
        out_signed=False,
        neuron=neuron,
    )
    logits = Dense(
        name="logits",
        input="hidden",
        weight=rng.integers(-8, 8, (n_classes, 20)),
        bias=np.zeros(n_classes, np.int64),
        weight_bits=4,
        out_bits=32,
        out_signed=True,
    )
    return QuantizedNetwork(
        FeatureType((4, 4, 4), bits, signed=False),
        (hidden, logits),
        "net",
        time_steps=time_steps,
        coding=coding,
        exit=stop,
    )


def sure(threshold: float, scale: float = 0.05) -> Exit:
    return Exit(metric="confidence", mode="sum", threshold=threshold, scale=scale)


def test_without_chunks_everything_is_0() -> None:
    registers, tables = time_registers(compile_network(network(8), TINY))
    assert set(registers.values()) == {0}
    assert tables == {}


def test_registers_by_hand() -> None:
    image = compile_network(network(11, stop=sure(0.5)), TINY)
    registers, tables = time_registers(image)
    assert registers["TIME"] == 11 | 4 << 8
    assert registers["INPUT_STRIDE"] == packet_stride(image) == 512
    assert registers["EXIT"] == 1 | 5 << 4 | 10 << 8
    assert registers["EXIT_LOGITS"] == image.contents.output_address
    assert registers["EXIT_LIMIT"] == 2 * 65535
    assert sorted(tables) == [Table.POWERS, Table.LOGARITHMS, Table.FACTORS]
    assert [len(tables[first]) for first in sorted(tables)] == [256, 256, 11]
    assert tables[Table.FACTORS][0] >> 16 <= 47


def test_images_have_one_packet() -> None:
    registers, _ = time_registers(compile_network(network(12, coding="direct"), TINY))
    assert registers["INPUT_STRIDE"] == 0
    assert registers["EXIT_LIMIT"] == 0, "never stops"


def test_frames_that_the_host_starts() -> None:
    net = network(10)
    net = replace(net, layers=net.layers[:1])
    image = compile_network(net, TINY)
    assert image.exit_registers is None
    registers, tables = time_registers(image, first_chunk=2)
    assert registers["TIME"] == 12 | 4 << 8 | 8 << 16
    assert registers["EXIT"] == 0
    assert tables == {}


@pytest.mark.parametrize(
    ("time_steps", "stop", "chunk"),
    [(4, None, 0), (8, None, 0), (9, None, 4), (4, sure(0.9), 0), (5, sure(0.9), 4)],
)
def test_chunk_that_is_chosen(time_steps: int, stop: Exit | None, chunk: int) -> None:
    assert chunk_of(network(time_steps, stop=stop)) == chunk


def test_too_many_classes_for_an_exit() -> None:
    net = network(4, n_classes=MAX_CLASSES + 1, stop=sure(0.5))
    with pytest.raises(FitError, match="layer logits must have at most 256 classes for an exit"):
        compile_network(net, CONFIGS["mars"])


@pytest.mark.parametrize("chunk", [1, 2, 3, 4])
def test_a_frame_stops_behind_the_step_of_the_reference(chunk: int) -> None:
    taken = set()
    for seed, threshold in enumerate((0.2, 0.3, 0.5, 0.8, 0.999)):
        net = network(9, stop=sure(threshold))
        features = random_input(net, seed)[0]
        done = frame.run_frame(compile_network(net, TINY, chunk), features)
        right = reference.run_steps(net, features)
        (steps,) = right.steps
        assert done.steps == steps
        np.testing.assert_array_equal(done.logits, right.values["logits"][0, steps - 1].reshape(-1))
        assert len(done.chunks) == -(-steps // chunk)
        ends = sum(runs[-1].clocks.end for runs in done.chunks)
        between = 2 * (len(done.chunks) - 1) + exit_clocks(10, int(steps)) + 1
        assert done.clocks == ends + between
        taken.add(int(steps))
    assert len(taken) > 2


def test_all_steps_at_once_are_decided_too() -> None:
    net = network(4, stop=sure(0.2))
    done = frame.run_frame(compile_network(net, TINY), random_input(net, 1)[0])
    assert len(done.chunks) == 1
    assert done.steps == reference.run_steps(net, random_input(net, 1)[0]).steps[0]
