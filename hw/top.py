"""The chip: its accelerators behind the host's AXI4-Lite port."""

from amaranth.hdl import Cat, Module
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from hw.bridge import Bridge
from hw.bus.axi_lite import AXI4LiteBridge, AXI4LiteSignature
from hw.bus.host_bus import HostBusDecoder
from hw.mars.processor import MarsProcessor
from hw.npu.processor import NPUProcessor


class Kenyon(Component):
    """A chip of one configuration.

    Parameters
    ----------
    chip : ChipConfig
    trace : bool
        Add the ports that benches compare with the model; synthesis leaves them out.

    Members
    -------
    s_axil : In(AXI4LiteSignature())
        Registers and memories (model/registers.rdl).
    irq : Out(1)
        A run, a frame or a burst behind one has ended, if enabled.
    s_axis_events : In(AXI4StreamSignature())
        Timed external events (model/npu/events.py). With NPU.
    m_axis_spikes : Out(AXI4StreamSignature())
        Spikes as address events. With NPU.
    m_axi_weights : Out(AXI4ReadSignature(...))
        Input packets and programs. With MARS.
    trace_POPULATION : Out(RetirementSignature(...))
    trace_commit, trace_step_clocks, trace_stall_clocks : Out
        One clock after the end of a step, and its clocks.
    trace_mars : Out(hw.mars.accelerator.TraceSignature())
    """

    def __init__(self, chip, *, trace=False):
        self.accelerators = {}
        bridged = chip.has_bridge
        if chip.npu is not None:
            self.accelerators["npu"] = NPUProcessor(chip.npu, trace=trace, bridged=bridged)
        if chip.mars is not None:
            self.accelerators["mars"] = MarsProcessor(chip.mars, trace=trace, bridged=bridged)
        self.bridge = Bridge(chip) if bridged else None
        members = {"s_axil": In(AXI4LiteSignature()), "irq": Out(1)}
        for accelerator in self.accelerators.values():
            members |= accelerator.pins
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        parts = dict(self.accelerators)
        if self.bridge is not None:
            parts["bridge"] = self.bridge
        m.submodules.axi_lite = axi_lite = AXI4LiteBridge()
        m.submodules.decoder = decoder = HostBusDecoder(
            [region for part in parts.values() for region in part.regions]
        )
        connect(m, flipped(self.s_axil), axi_lite.axi)
        connect(m, axi_lite.bus, decoder.bus)
        targets = iter(decoder.targets)
        for name, part in parts.items():
            m.submodules[name] = part
            for target in part.targets:
                connect(m, next(targets), target)
        for accelerator in self.accelerators.values():
            for pin, member in accelerator.pins.items():
                outside, inside = getattr(self, pin), getattr(accelerator, pin)
                if member.is_port:
                    m.d.comb += outside.eq(inside)
                else:
                    connect(m, flipped(outside), inside)
        if self.bridge is not None:
            connect(m, self.bridge.results, self.accelerators["mars"].results)
            connect(m, self.bridge.stimuli, self.accelerators["npu"].stimuli)
        m.d.comb += [
            axi_lite.hold.eq(Cat(part.hold for part in parts.values()).any()),
            self.irq.eq(Cat(part.irq for part in parts.values()).any()),
        ]
        return m
