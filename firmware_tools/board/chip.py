"""A chip on a board, as a host uses it."""

from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from firmware_tools.board.link import BoardError, Link
from firmware_tools.board.port import Port, SerialPort
from firmware_tools.console import CONFIG_NAMES
from model.board.config import BOARDS, BoardConfig
from model.board.protocol import LAST_BIT
from model.config import ChipConfig
from model.npu import events as timed
from model.npu import layout
from model.npu.config import CONFIGS, NPUConfig
from model.npu.image import bias_records, records
from model.npu.network import Ints, Network
from model.registers import register_map

CHUNK_STEPS = 256
"""Time steps of one start: so a chip that says nothing for a second is broken."""
FINGERPRINT = 0x04
"""Address, of every chip."""


class Chip:
    """A chip on a board.

    Reset when it is opened; to be closed, or used by `with`.

    Parameters
    ----------
    port : str or Port
        For example /dev/ttyUSB0.
    config : NPUConfig, optional
        What the board must hold; whatever it holds if nothing is said.
    board : BoardConfig
        Whose speed the line has.
    timeout : float
        Seconds within which the board must answer.

    Attributes
    ----------
    config : NPUConfig

    Raises
    ------
    UserError
        The port can not be opened, or what BoardError says.
    BoardError
        The board does not answer, holds another configuration or none that has a name.
    """

    def __init__(
        self,
        port: str | Port,
        config: NPUConfig | None = None,
        *,
        board: BoardConfig = BOARDS["ulx3s"],
        timeout: float = 2.0,
    ) -> None:
        self._port = SerialPort(port, board.baud) if isinstance(port, str) else port
        self._link = Link(self._port, timeout)
        self._network: Network | None = None
        try:
            self._link.reset()
            self.config = self._identify(config)
        except BaseException:
            self.close()
            raise
        self._map = register_map(ChipConfig.alone(self.config))

    def _identify(self, wanted: NPUConfig | None) -> NPUConfig:
        (fingerprint,) = self._link.read([FINGERPRINT])
        held = next((one for one in CONFIGS.values() if one.fingerprint == fingerprint), None)
        if wanted is None and held is not None:
            return held
        if wanted is not None and wanted.fingerprint == fingerprint:
            return wanted
        right = CONFIG_NAMES if wanted is None else wanted.name
        name = f"fingerprint {fingerprint:08x}" if held is None else held.name
        raise BoardError(
            f"board must hold configuration {right}, not {name}; "
            "kenyon fpga -c CONFIG --board BOARD makes its bitstream"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others use the port."""
        self._port.close()

    def read(self, register: str) -> int:
        """A register by its name (docs/registers.md), for example `STATUS`."""
        return self._link.read([self._address(register)])[0]

    def write(self, register: str, value: int) -> None:
        """Write a register by its name."""
        if not 0 <= value < 1 << 32:
            raise BoardError(f"value of {register} must be 0..{(1 << 32) - 1}, not {value}")
        self._link.write([(self._address(register), value)])

    def memory(self, name: str) -> layout.Words:
        """All words of a memory by its name, for example `neurons[0]`."""
        if name not in self._map.memories:
            names = ", ".join(self._map.memories)
            raise BoardError(f"memory must be one of {names}, not {name}")
        memory = self._map.memories[name]
        end = memory.address + 4 * memory.n_words
        return np.array(self._link.read(range(memory.address, end, 4)), np.uint32)

    def _address(self, register: str) -> int:
        if register not in self._map.registers:
            names = ", ".join(self._map.registers)
            raise BoardError(f"register must be one of {names}, not {register}")
        return self._map[register]

    def load(self, network: Network) -> None:
        """Reset the board and put a network on it, in its initial state and without stimuli.

        Raises
        ------
        FitError
            The network does not fit the configuration.
        """
        image = records(network, self.config)
        self._link.reset()
        self._link.write(write for record in image for write in record.writes)
        self._network = network

    def set_bias(self, bias: Mapping[int, int]) -> None:
        """Change external stimuli: {neuron: bias}."""
        changed = bias_records(self._loaded(), self.config, bias)
        self._link.write(write for record in changed for write in record.writes)

    def run(self, steps: int, events: ArrayLike = ()) -> NDArray[np.bool_]:
        """Run time steps; who fired: (steps, neurons).

        Parameters
        ----------
        steps : int
        events : (n, 2) numbers
            Time step, counted from the last `load`, and axon; in the order of their steps.
        """
        network = self._loaded()
        first = self.read("STEP")
        sent = np.asarray(events, np.int64).reshape(-1, 2)
        _check_events(sent, first, steps, sum(network.axons))
        parts = [np.zeros((0, network.n_neurons), np.bool_)]
        for start in range(first, first + steps, CHUNK_STEPS):
            end = min(start + CHUNK_STEPS, first + steps)
            low, high = np.searchsorted(sent[:, 0], [start, end])
            parts.append(self._run(network, start, end, sent[low:high]))
        return np.concatenate(parts)

    def _loaded(self) -> Network:
        if self._network is None:
            raise BoardError("network must be loaded first (Chip.load)")
        return self._network

    def _run(self, network: Network, start: int, end: int, events: Ints) -> NDArray[np.bool_]:
        """Run the time steps start..end-1 at once."""
        registers = self._map
        control = registers.word("CONTROL", start=1, event_sync=1, irq_enable=1)
        beats = []
        for step, axon in events.tolist():
            p = int(network.population_of_axon(np.array(axon)))
            beats.append(timed.beat(step, p, axon - network.axon_slice(p).start))
        beats.append(timed.beat(end, 0, 0, fence=True))
        self._link.write([(registers["RUN_STEPS"], end - start), (registers["CONTROL"], control)])
        self._link.run(beats)
        self._link.write([(registers["STATUS"], registers.word("STATUS", done=1))])
        came, self._link.spikes = self._link.spikes, []
        return _spikes(network, start, end, came)


def _spikes(network: Network, start: int, end: int, beats: list[int]) -> NDArray[np.bool_]:
    """Who fired in the time steps start..end-1, out of all beats of them."""
    spikes = np.zeros((end - start, network.n_neurons), np.bool_)
    populations = network.populations
    for k, tdata in enumerate(beats):
        step, p, index = timed.read_beat(tdata)
        ends = k + 1 == len(beats) or timed.read_beat(beats[k + 1])[0] != step
        if tdata >> LAST_BIT != ends:
            raise BoardError(f"spikes of time step {step} must be complete: bytes were lost")
        if not (start <= step < end and p < len(populations) and index < populations[p]):
            raise BoardError(
                f"spike must be of a neuron of the network in time steps {start}..{end - 1}, "
                f"not of neuron {index} of population {p} in {step}"
            )
        spikes[step - start, network.neuron_slice(p).start + index] = True
    return spikes


def _check_events(events: Ints, first: int, steps: int, n_axons: int) -> None:
    """Refuse events that the chip would use in another step, or not at all."""
    if steps < 0:
        raise BoardError(f"steps must be at least 0, not {steps}")
    for k, (step, axon) in enumerate(events.tolist()):
        if not first <= step < first + steps:
            raise BoardError(f"events[{k}]: step must be {first}..{first + steps - 1}, not {step}")
        if not 0 <= axon < n_axons:
            raise BoardError(f"events[{k}]: axon must be 0..{n_axons - 1}, not {axon}")
    for k in range(1, len(events)):
        if events[k, 0] < events[k - 1, 0]:
            raise BoardError(f"events[{k}]: steps must be in order, not {events[k, 0]}")
