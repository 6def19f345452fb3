"""The weight memory of `tb/axi_memory.sv` for a simulation whose top is the chip itself."""

from collections import deque

import cocotb
from cocotb.triggers import RisingEdge

from tb.mars.cosim import LATENCY


class WeightMemory:
    """Answers bursts beat by beat: the first one a latency behind the request, then in each clock.

    Parameters
    ----------
    dut : kenyon
    n_bytes : int
        Of a beat.
    """

    def __init__(self, dut, n_bytes: int) -> None:
        self.dut = dut
        self.n_bytes = n_bytes
        self.regions: dict[int, bytes] = {}
        """What lies at which address."""

    def start(self) -> None:
        """Answer from now on."""
        dut = self.dut
        dut.m_axi_weights_arready.value = 1
        for name in ("rvalid", "rlast", "rresp", "rid", "rdata"):
            getattr(dut, f"m_axi_weights_{name}").value = 0
        cocotb.start_soon(self._serve())

    async def _serve(self) -> None:
        dut, edge = self.dut, RisingEdge(self.dut.clk)
        names = ("arvalid", "araddr", "arlen")
        arvalid, araddr, arlen = (getattr(dut, f"m_axi_weights_{name}") for name in names)
        valid, data, last = (
            getattr(dut, f"m_axi_weights_{n}") for n in ("rvalid", "rdata", "rlast")
        )
        asked = RisingEdge(arvalid)
        beats: deque[tuple[int, int, bool]] = deque()
        clock = 0
        while True:
            if not beats and not valid.value and not arvalid.value:
                await asked
            await edge
            if arvalid.value:
                address, n = int(araddr.value), int(arlen.value) + 1
                due = clock + LATENCY
                beats += [(due, address + k * self.n_bytes, k == n - 1) for k in range(n)]
            # Decided for the clock that begins with this edge.
            clock += 1
            offered = bool(beats) and beats[0][0] <= clock
            valid.value = offered
            if offered:
                _, address, ends = beats.popleft()
                data.value = self._beat(address)
                last.value = ends

    def _beat(self, address: int) -> int:
        for base, contents in self.regions.items():
            if base <= address < base + len(contents):
                offset = address - base
                return int.from_bytes(contents[offset : offset + self.n_bytes], "little")
        raise LookupError(f"no memory at {address:#x}")
