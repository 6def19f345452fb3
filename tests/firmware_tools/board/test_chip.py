"""The host library without a board: names, mistakes, ports that are none."""

import os
import re
import termios

import numpy as np
import pytest

from firmware_tools.board import BoardError, Chip, SerialPort
from firmware_tools.errors import UserError
from model.board import protocol
from model.board.config import BOARDS, BoardConfig, check_chip
from model.config import CHIPS
from model.npu.config import CONFIGS
from model.npu.random_network import random_network
from model.npu.registers import register_map

TINY = CONFIGS["tiny"]
GREETING = protocol.GREETING * 9


class Words:
    """A port to something that keeps words, and answers like a board.

    Parameters
    ----------
    says : bytes
        What it says after a break.
    fingerprint : int
    """

    def __init__(self, says: bytes = GREETING, fingerprint: int = TINY.fingerprint) -> None:
        self.says = says
        self.words = {4: fingerprint}
        self.said = b""
        self.heard = b""
        self.most_unanswered = 0
        self.closed = False

    def send_break(self) -> None:
        self.said = self.says

    def write(self, data: bytes) -> None:
        self.heard += data
        self.most_unanswered = max(self.most_unanswered, len(self.heard))

    def read(self, timeout: float) -> bytes:
        assert timeout == 2.0
        if not self.said and self.heard:
            self._answer()
        said, self.said = self.said[:3], self.said[3:]
        return said

    def _answer(self) -> None:
        kind = self.heard[:1]
        length = 1 + protocol.PAYLOAD[kind]
        request, self.heard = self.heard[1:length], self.heard[length:]
        address = int.from_bytes(request[:4], "little")
        if kind == protocol.WRITE:
            self.words[address] = int.from_bytes(request[4:], "little")
            self.said = protocol.WRITTEN + b"\0"
        else:
            assert kind == protocol.READ
            word = self.words.get(address, 0).to_bytes(4, "little")
            self.said = protocol.WAS_READ + b"\0" + word

    def close(self) -> None:
        self.closed = True


def test_image_and_window() -> None:
    """Every word of a network arrives; never more than the window is without an answer."""
    port = Words()
    network = random_network(np.random.default_rng(1), TINY)
    with Chip(port) as chip:
        chip.load(network)
        chip.memory("weights[1]")
    assert port.closed
    from model.npu.image import records

    expected = {
        record.address + 4 * k: int(word)
        for record in records(network, TINY)
        for k, word in enumerate(record.words)
    }
    assert {address: port.words[address] for address in expected} == expected
    assert protocol.WINDOW // 2 < port.most_unanswered <= protocol.WINDOW


@pytest.mark.parametrize(
    ("says", "fingerprint", "error"),
    [
        (b"", TINY.fingerprint, "board must answer within 2 s: check cable and port"),
        (GREETING[:8], TINY.fingerprint, "board must answer within 2 s"),
        (b"xy" + GREETING + b"\x80", 0, "board must send packets, not b'\\x80': check the speed"),
        (GREETING + b"S!", 0, "board must answer within 2 s"),
        (
            GREETING,
            0x12345678,
            "poppins, odin, large, not fingerprint 12345678",
        ),
    ],
)
def test_no_board(says: bytes, fingerprint: int, error: str) -> None:
    port = Words(says, fingerprint)
    with pytest.raises(BoardError, match=re.escape(error)):
        Chip(port)
    assert port.closed


def test_stale_bytes_before_the_greeting() -> None:
    assert Chip(Words(b"S!!\x07" + GREETING)).config is TINY


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda chip: chip.read("NOTHING"), "register must be one of ID, FINGERPRINT, "),
        (lambda chip: chip.write("STEP", 1 << 32), "value of STEP must be 0..4294967295, not "),
        (lambda chip: chip.memory("ID"), "memory must be one of neurons[0], "),
        (lambda chip: chip.run(1), "network must be loaded first"),
        (lambda chip: chip.set_bias({0: 1}), "network must be loaded first"),
    ],
)
def test_mistakes(call, error: str) -> None:
    with pytest.raises(BoardError, match=re.escape(error)):
        call(Chip(Words()))


@pytest.mark.parametrize(
    ("steps", "events", "error"),
    [
        (-1, [], "steps must be at least 0, not -1"),
        (5, [(5, 0)], "events[0]: step must be 0..4, not 5"),
        (5, [(1, 0), (2, 99)], "events[1]: axon must be 0.."),
        (5, [(2, 0), (1, 0)], "events[1]: steps must be in order, not 1"),
    ],
)
def test_wrong_events(steps: int, events: list[tuple[int, int]], error: str) -> None:
    rng = np.random.default_rng(1)
    network = random_network(rng, TINY)
    while not sum(network.axons):
        network = random_network(rng, TINY)
    chip = Chip(Words())
    chip.load(network)
    with pytest.raises(BoardError, match=re.escape(error)):
        chip.run(steps, events)


def test_serial_port() -> None:
    """Every byte passes as it is, both ways; a speed is set."""
    ours, theirs = os.openpty()
    port = SerialPort(os.ttyname(theirs), 1_000_000)
    data = bytes(range(256))
    port.write(data)
    heard = b""
    while len(heard) < 256:
        heard += os.read(ours, 256)
    assert heard == data
    os.write(ours, data)
    heard = b""
    while len(heard) < 256:
        heard += port.read(10)
    assert heard == data
    assert port.read(0.01) == b""
    assert termios.tcgetattr(theirs)[4:6] == [termios.B1000000] * 2
    # What has come before the end of a break is forgotten.
    os.write(ours, b"stale")
    port.send_break()
    os.write(ours, b"fresh")
    assert port.read(10) == b"fresh"
    port.close()
    os.close(ours)
    os.close(theirs)


def test_no_serial_port(tmp_path) -> None:
    with pytest.raises(UserError, match="missing: port must open, not fail: no such file"):
        SerialPort(str(tmp_path / "missing"), 1_000_000)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: port must be a serial port"):
        SerialPort(str(tmp_path / "file"), 1_000_000)
    ours, theirs = os.openpty()
    with pytest.raises(UserError, match="baud must be one that Linux knows, not 12345"):
        SerialPort(os.ttyname(theirs), 12345)
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("options", [("--backend", "board"), ("--port", "/dev/ttyUSB0")])
def test_port_and_backend_belong_together(kenyon, tonic, options: tuple[str, str]) -> None:
    result = kenyon("run", tonic(), *options)
    assert result.exit_code == 2
    assert result.stderr == "error: --port must be given with --backend board, and only then\n"


def test_kenyon_run_without_a_board(kenyon, tonic) -> None:
    result = kenyon("run", tonic(), "--backend", "board", "--port", "missing")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: missing: port must open, not fail: no such file or directory\n"
    )


def test_boards() -> None:
    """Bits of a board's line are as long as its host's to a hundredth; events fit the window."""
    for board in BOARDS.values():
        assert abs(board.clock_hz / board.baud / board.divider - 1) < 0.01
        assert len({pin.site for pin in board.pins.values()}) == len(board.pins)
    assert protocol.WINDOW // len(protocol.event(0)) < protocol.N_EVENTS
    assert register_map(TINY)["FINGERPRINT"] == 4


def test_wrong_boards() -> None:
    with pytest.raises(ValueError, match="baud must be at most 250, a bit of 4 clocks, not 500"):
        BoardConfig(name="x", package="", clock_hz=1000, baud=500, pins={})
    for name in ("mars-tiny", "kenyon-tiny"):
        with pytest.raises(ValueError, match=f"populations alone on ulx3s, not {name}: MARS needs"):
            check_chip(CHIPS[name], "ulx3s")
