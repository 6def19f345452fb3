"""Drives a chip with both halves over its registers."""

from model.config import ChipConfig
from model.npu import layout
from model.npu.image import records
from model.npu.network import Network
from model.registers import register_map
from tb.joint.cosim import BridgeResult
from tb.mars.host import SystemHost

ENABLE, IRQ_ENABLE = 1 << 0, 1 << 1
DONE = 1 << 1


class JointHost(SystemHost):
    """Runs frames whose results go over the bridge.

    Parameters
    ----------
    dut : kenyon or joint_system
    config : ChipConfig
    """

    def __init__(self, dut, config: ChipConfig) -> None:
        super().__init__(dut, config.mars)
        self.config = config
        self.addresses = register_map(config)

    async def load(self, network: Network, registers: dict[str, int], entries: list[int]) -> None:
        """Write a network, the bridge's entries and registers, and switch it on."""
        for record in records(network, self.config.npu):
            await self.write(record.address, record.words.tolist())
        await self.write(self.addresses["bridge_entries"], entries)
        for name, value in registers.items():
            await self.write(self.addresses[name], [value])
        await self.write(self.addresses["bridge.CONTROL"], [ENABLE | IRQ_ENABLE])

    async def bridge_result(self, network: Network) -> BridgeResult:
        """What the bridge shows; its flag is cleared."""
        elapsed = int(self.dut.elapsed.value)
        names = ("STATUS", "CLOCKS", "WINNER")
        status, clocks, winner = [
            await self.read(self.addresses[f"bridge.{name}"]) for name in names
        ]
        await self.write(self.addresses["bridge.STATUS"], [DONE])
        counts = [
            await self.read(self.addresses["bridge_counts"] + 4 * k)
            for k in range(self.config.npu.n_neurons)
        ]
        bias = []
        for p, n in enumerate(network.populations):
            first = self.addresses[f"neurons[{p}]"] + 4 * layout.BIAS_WORD
            step = 4 * layout.WORDS_PER_NEURON
            bias += [await self.read(first + step * k) for k in range(n)]
        return BridgeResult(
            status, clocks, elapsed, (winner & 0xFFF, winner >> 16), tuple(counts), tuple(bias)
        )
