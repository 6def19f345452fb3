"""The host's side of the chip behind a standard bus model, with registers by name."""

from cocotb.clock import Clock
from cocotb.triggers import ClockCycles
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from model.config import ChipConfig
from model.registers import register_map

CLOCK_NS = 10


class Master:
    """Makes clock and reset, and reads and writes registers.

    Parameters
    ----------
    dut : kenyon
    names : mapping
        Addresses by name.
    """

    def __init__(self, dut, names) -> None:
        self.dut = dut
        self.map = names
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)

    async def start(self) -> None:
        """Clock and reset."""
        Clock(self.dut.clk, CLOCK_NS, "ns").start()
        self.dut.rst.value = 1
        await ClockCycles(self.dut.clk, 4)
        self.dut.rst.value = 0
        await ClockCycles(self.dut.clk, 2)

    async def write(self, address: int, data: bytes) -> AxiResp:
        """Write bytes; the worst answer of all beats."""
        return (await self.master.write(address, data)).resp

    async def read(self, address: int, length: int = 4) -> tuple[AxiResp, bytes]:
        """Read bytes and the worst answer of all beats."""
        answer = await self.master.read(address, length)
        return answer.resp, bytes(answer.data)

    async def set(self, name: str, value: int) -> None:
        """Write a register; it must accept."""
        response = await self.write(self.map[name], value.to_bytes(4, "little"))
        assert response == AxiResp.OKAY, f"{name} refused {value:#x}"

    async def get(self, name: str) -> int:
        """Read a register; it must answer."""
        response, data = await self.read(self.map[name])
        assert response == AxiResp.OKAY, f"{name} refused to be read"
        return int.from_bytes(data, "little")


def bridge_holes(chip: ChipConfig) -> list[int]:
    """Addresses around the bridge at which the chip has nothing."""
    if not chip.has_bridge:
        return [0xA000, 0xA800, 0xC000]
    chip_map = register_map(chip)
    entries, counts = (chip_map.memories[name] for name in ("bridge_entries", "bridge_counts"))
    ends = [one.address + 4 * one.n_words for one in (entries, counts)]
    behind_registers = 4 + max(
        one.address for one in chip_map.registers.values() if one.name.startswith("bridge.")
    )
    return [behind_registers, entries.address - 4, counts.address - 4, *ends]
