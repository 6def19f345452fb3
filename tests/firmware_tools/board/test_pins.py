"""The host library against a chip on a board in simulation, through nothing but its pins."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_tools.board import BoardError, Chip, backend
from firmware_tools.npu.backends import Player
from model.board import protocol
from model.config import CHIPS
from model.npu.config import CONFIGS
from model.npu.network import Network, Segment
from model.npu.random_network import random_network
from tb.board.cosim import BUTTON, WRONG_STOP, SimulatedBoard

TINY = CONFIGS["tiny"]
MOST_SPIKES = 150
"""Of a network: each takes 360 clocks to be sent."""


@pytest.fixture(scope="module")
def port() -> Iterator[SimulatedBoard]:
    with SimulatedBoard(CHIPS["tiny"]) as board:
        yield board


@pytest.fixture
def chip(port: SimulatedBoard, monkeypatch: pytest.MonkeyPatch) -> Chip:
    monkeypatch.setattr(port, "close", lambda: None)
    return Chip(port)


def some_network(seed: int, change: Callable[[Network], Network | None]) -> Network:
    """A network that fires, but not too often."""
    rng = np.random.default_rng(seed)
    while True:
        network = change(random_network(rng, TINY))
        if network is not None and network.n_steps <= 150:
            spikes = Player(network, "model", TINY).play(network.n_steps).spikes.sum()
            if 20 <= spikes <= MOST_SPIKES:
                return network


def silent(network: Network) -> Network | None:
    """Without events, with stimuli that change."""
    return network if not len(network.events) and len(network.session) > 1 else None


def busy(network: Network) -> Network | None:
    """With events, and more than the window of the board has room for."""
    n_axons = sum(network.axons)
    if n_axons < 8 or len(network.populations) < 2:
        return None
    steps = protocol.WINDOW // len(protocol.event(0)) // n_axons + 20
    events = [(step, axon) for step in range(steps) for axon in range(n_axons)]
    return replace(network, session=(Segment(steps),), events=np.array(events, np.int64))


@pytest.mark.parametrize("change", [silent, busy])
def test_every_spike_and_the_state(
    chip: Chip, change: Callable[[Network], Network | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spikes of every step, and at the end v, current and clocks, in several runs."""
    network = some_network(1, change)
    monkeypatch.setattr(backend, "CHUNK_STEPS", network.n_steps // 2 + 1)
    monkeypatch.setattr("firmware_tools.board.chip.CHUNK_STEPS", network.n_steps // 3 + 1)
    steps = sum(len(trace) for trace in backend.simulate(network, chip))
    assert steps == network.n_steps
    assert chip.read("STATUS") == 0


def test_lines_of_a_user(chip: Chip) -> None:
    """What docs/integration.md shows; a network of another shape follows on the same chip."""
    for seed in (2, 3):
        network = some_network(seed, silent)
        chip.load(network)
        player = Player(network, "model", TINY)
        for segment in network.session:
            chip.set_bias(segment.bias)
            np.testing.assert_array_equal(
                chip.run(segment.steps), player.play(segment.steps).spikes
            )
        assert chip.read("STEP") == network.n_steps
    chip.write("TIMER_PERIOD", 77)
    assert chip.read("TIMER_PERIOD") == 77
    chip.load(network)
    assert chip.read("TIMER_PERIOD") == 0  # the whole chip was reset


def test_kenyon_run(
    kenyon, pair: Path, port: SimulatedBoard, chip: Chip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verb: figures as of the model; exit code 1 if a spike is another one."""
    monkeypatch.setattr("firmware_tools.board.chip.SerialPort", lambda _path, _baud: port)
    command = ("run", pair, "--backend", "board", "--port", "/dev/ttyUSB0")
    result = kenyon(*command)
    assert result.exit_code == 0, result.stderr
    assert "all spikes, and the state at the end, equal the model's" in result.stdout
    figures: list[dict[str, Any]] = []
    for backend_name in (command[2:], ("--backend", "model")):
        result = kenyon("run", pair, *backend_name, "--json")
        figures.append(json.loads(result.stdout))
    for values in figures:
        del values["wall_seconds"], values["backend"]
    assert figures[0] == figures[1]

    run = Chip.run

    def wrong(self: Chip, steps: int, events: Any) -> Any:
        spikes = run(self, steps, events)
        if self.read("STEP") == 50:
            spikes[6, 2] ^= True
        return spikes

    monkeypatch.setattr(Chip, "run", wrong)
    result = kenyon(*command)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: board: step 26, population 1, neuron 0: spike must be ")
    assert chip.config == TINY


def test_begins_anew_in_the_middle_of_a_request(port: SimulatedBoard, chip: Chip) -> None:
    """Whatever was left half said; registers are as after a reset."""
    chip.write("TIMER_PERIOD", 5)
    port.write(protocol.write(0x18, 9)[:6])
    assert Chip(port).read("TIMER_PERIOD") == 0


@pytest.mark.parametrize(
    ("symbols", "error"),
    [
        ([WRONG_STOP | protocol.WRITE[0]], "board has lost bytes of the line: check its speed"),
        ([0x00], "board has lost bytes of the line"),
        ([BUTTON], "board must not be reset in between: its button"),
        (protocol.read(4), "board must answer what was asked"),
    ],
)
def test_trouble(port: SimulatedBoard, chip: Chip, symbols: list[int], error: str) -> None:
    """It is noticed at the next word, and after another `load` all is well."""
    port.send(*symbols)
    with pytest.raises(BoardError, match=error):
        chip.write("TIMER_PERIOD", 1)
    network = some_network(4, silent)
    chip.load(network)
    expected = Player(network, "model", TINY).play(10).spikes
    chip.set_bias(network.session[0].bias)
    np.testing.assert_array_equal(chip.run(10), expected)


def test_refused_accesses(chip: Chip) -> None:
    with pytest.raises(BoardError, match="address 0x0 can not be written: the chip answers 2"):
        chip.write("ID", 1)
    assert chip.read("ID") == int.from_bytes(b"KNYN", "big")


def test_wrong_chip(port: SimulatedBoard, chip: Chip) -> None:
    right = "board must hold configuration poppins, not tiny; kenyon fpga"
    with pytest.raises(BoardError, match=right):
        Chip(port, CONFIGS["poppins"])
    assert Chip(port, TINY).config is chip.config is TINY
