"""A board in simulation, of which nothing is seen but its pins: its line, as a port of the host."""

import select
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

from model.board.config import MIN_DIVIDER
from model.config import CHIPS, ChipConfig
from tb import simulator
from tb.simulator import BenchFailure, Design

BREAK, BUTTON, WRONG_STOP = 0x100, 0x200, 0x400
"""What is sent to the simulation besides bytes: a break, which comes back when the board is silent;
a press of the button; and a bit that says of a byte that its stop bit is wrong."""
PATIENCE_S = 300


def symbol(value: int) -> bytes:
    """As it goes over the socket, both ways."""
    return value.to_bytes(2, "little")


def board(config: ChipConfig) -> Design:
    """The chip on a board, with the fastest line that there can be."""

    def sources() -> dict[str, str]:
        from hw.board.top import Board
        from hw.generate import TOP, convert

        return {"kenyon.v": convert(Board(config, "simulation", MIN_DIVIDER), TOP)}

    fingerprints = (f"{part.fingerprint:08x}" for part in config.accelerators)
    return Design("-".join(["board", config.name, *fingerprints]), "kenyon", sources)


class SimulatedBoard:
    """A port of the host (`firmware_tools.board.port.Port`) to a board in a process of its own.

    Parameters
    ----------
    config : ChipConfig

    Raises
    ------
    BuildError
    """

    def __init__(self, config: ChipConfig) -> None:
        simulator.build(board(config))
        self.folder = Path(tempfile.mkdtemp(prefix="kenyon-"))
        path = self.folder / "line"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(1)
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__, config.name, str(path)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=simulator.ROOT,
                start_new_session=True,
            )
            while not select.select([listener], [], [], 0.5)[0]:
                self._check_alive()
            self.line, _ = listener.accept()
        self._rest: list[int] = []

    def _check_alive(self) -> None:
        if self.process.poll() is not None:
            log = self.folder / "bench.log"
            text = log.read_text(errors="replace") if log.exists() else "(no log)"
            tail = "\n".join(text.splitlines()[-25:])
            raise BenchFailure(f"the simulation ended early:\n{tail}")

    def send(self, *symbols: int) -> None:
        """Bytes, and what is none."""
        self.line.sendall(b"".join(map(symbol, symbols)))

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self.send(*data)

    def send_break(self) -> None:
        """Keep the line low for long enough, and forget what has come until then."""
        self.send(BREAK)
        while BREAK not in (heard := self._hear(None)):
            pass
        self._rest = heard[heard.index(BREAK) + 1 :]

    def read(self, _timeout: float) -> bytes:
        """What has come, at least a byte; nothing after `PATIENCE_S`: a simulation is slow."""
        return bytes(self._hear(PATIENCE_S))

    def _hear(self, timeout: float | None) -> list[int]:
        """Symbols, at least one if they come in time."""
        heard, self._rest = self._rest, []
        if not heard and select.select([self.line], [], [], timeout)[0]:
            data = self.line.recv(1 << 16)
            if len(data) % 2:
                data += self.line.recv(1)
            if not data:
                self.process.wait()
            heard = [int.from_bytes(data[k : k + 2], "little") for k in range(0, len(data), 2)]
        if not heard:
            self._check_alive()
        return heard

    def close(self) -> None:
        """End the simulation."""
        self.line.close()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def main() -> None:
    """Arguments: name of the chip, the socket."""
    name, path = sys.argv[1:]
    environment = {"KENYON_LINE": path}
    folder = Path(path).parent
    simulator.run(board(CHIPS[name]), "tb.board.serve", folder, environment=environment)


if __name__ == "__main__":
    main()
