"""The chip: populations, scheduler, event streams and the host's AXI4-Lite port."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from hw.bus.axi_lite import AXI4LiteBridge, AXI4LiteSignature
from hw.bus.axi_stream import AXI4StreamSignature
from hw.bus.host_bus import HostBusDecoder
from hw.bus.registers import RegisterBank
from hw.npu.event_input import EventInput
from hw.npu.population import Population, RetirementSignature
from hw.npu.scheduler import Scheduler
from hw.npu.spike_output import SpikeOutput
from model.npu.registers import register_map

CHIP_REGION = 0x100
POPULATION_BASE = 0x1000
IMMEDIATE_WRITES = ("CONTROL", "STATUS")


class Kenyon(Component):
    """A chip of one configuration.

    Parameters
    ----------
    config : NPUConfig
    trace : bool
        Add the retirement ports that benches compare with the model; synthesis leaves them out.

    Members
    -------
    s_axil : In(AXI4LiteSignature())
        Registers and memories (model/npu/registers.rdl).
    s_axis_events : In(AXI4StreamSignature())
        Timed external events (model/npu/events.py).
    m_axis_spikes : Out(AXI4StreamSignature())
        Spikes as address events.
    irq : Out(1)
        A run has ended, if enabled.
    trace_POPULATION : Out(RetirementSignature(...))
    trace_commit, trace_step_clocks, trace_stall_clocks : Out
        One clock after the end of a step, and its clocks.
    """

    def __init__(self, config, *, trace=False):
        self.config = config
        self.trace = trace
        members = {
            "s_axil": In(AXI4LiteSignature()),
            "s_axis_events": In(AXI4StreamSignature()),
            "m_axis_spikes": Out(AXI4StreamSignature()),
            "irq": Out(1),
        }
        if trace:
            retirement = RetirementSignature(config.n_groups, config.n_lanes)
            members |= {f"trace_{p}": Out(retirement) for p in range(config.n_populations)}
            members |= {
                "trace_commit": Out(1),
                "trace_step_clocks": Out(32),
                "trace_stall_clocks": Out(32),
            }
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.scheduler = scheduler = Scheduler()
        m.submodules.events = events = EventInput(config.n_populations, config.n_axons)
        m.submodules.spike_output = spikes = SpikeOutput(config.n_populations, config.n_neurons)
        populations = [Population(config, p, self.trace) for p in range(config.n_populations)]
        for p, population in enumerate(populations):
            m.submodules[f"population_{p}"] = population
        chip, per_population = self._host(m, scheduler, populations)

        connect(m, flipped(self.s_axis_events), events.axis)
        connect(m, flipped(self.m_axis_spikes), spikes.axis)
        m.d.comb += [
            events.step.eq(scheduler.collect_step),
            events.hold.eq(scheduler.start),
            spikes.commit.eq(scheduler.commit),
            spikes.step.eq(scheduler.step),
            spikes.spikes.eq(Cat(population.spikes for population in populations)),
            scheduler.populations_busy.eq(Cat(p.busy for p in populations).any()),
            scheduler.spikes_busy.eq(spikes.busy),
            scheduler.events_complete.eq(events.complete),
            self.irq.eq(chip.STATUS_done & chip.CONTROL_irq_enable),
        ]
        clear = Signal()
        m.d.comb += [
            clear.eq(chip.CONTROL_clear & ~scheduler.running),
            events.clear.eq(clear),
        ]
        self._registers(m, chip, scheduler, events)
        for p, population in enumerate(populations):
            links = config.sources(p)[1:]
            name = f"population_{p}"
            load = getattr(per_population, f"{name}_NOISE_STATE_value_load")
            value = getattr(per_population, f"{name}_NOISE_STATE_value_load_value")
            m.d.comb += [
                population.start.eq(scheduler.start),
                population.commit.eq(scheduler.commit),
                population.clear.eq(clear),
                population.axon_event.eq(events.event[p]),
                population.axon.eq(events.axon),
                population.linked_spikes.eq(Cat(populations[k].spikes for k in links)),
                population.n_groups.eq(getattr(per_population, f"{name}_N_GROUPS_value")),
                population.links.eq(getattr(per_population, f"{name}_LINKS_value")),
                population.noise_load.eq(load),
                population.noise_load_value.eq(value),
                getattr(per_population, f"{name}_NOISE_STATE_value_now").eq(population.noise_state),
                getattr(per_population, f"{name}_SATURATED_flag_set").eq(population.saturated),
            ]
            if self.trace:
                connect(m, population.trace, flipped(getattr(self, f"trace_{p}")))
        if self.trace:
            m.d.sync += self.trace_commit.eq(scheduler.commit)
            m.d.comb += [
                self.trace_step_clocks.eq(scheduler.step_clocks),
                self.trace_stall_clocks.eq(scheduler.stall_clocks),
            ]
        return m

    def _host(self, m, scheduler, populations):
        """AXI4-Lite bridge, address decoder and register banks."""
        names = register_map(self.config)
        chip = [r for r in names.registers.values() if r.address < CHIP_REGION]
        others = [r for r in names.registers.values() if r.address >= POPULATION_BASE]
        m.submodules.chip_registers = chip_bank = RegisterBank(chip, 0)
        m.submodules.population_registers = population_bank = RegisterBank(others, POPULATION_BASE)
        targets = [(0, CHIP_REGION, chip_bank.bus)]
        targets.append((POPULATION_BASE, 0x10 * len(populations), population_bank.bus))
        for p, population in enumerate(populations):
            for region, bus in (
                (names.memories[f"neurons[{p}]"], population.neuron_bus),
                (names.memories[f"weights[{p}]"], population.weight_bus),
            ):
                targets.append((region.address, 4 * region.n_words, bus))

        m.submodules.bridge = bridge = AXI4LiteBridge()
        m.submodules.decoder = decoder = HostBusDecoder([target[:2] for target in targets])
        connect(m, flipped(self.s_axil), bridge.axi)
        connect(m, bridge.bus, decoder.bus)
        for target, (_, _, bus) in zip(decoder.targets, targets, strict=True):
            connect(m, target, bus)

        in_chip_region = bridge.bus.addr < CHIP_REGION
        immediate_write = Cat(bridge.bus.addr == names[name] for name in IMMEDIATE_WRITES).any()
        m.d.comb += [
            bridge.must_wait.eq(~in_chip_region | (bridge.bus.write & ~immediate_write)),
            bridge.grant.eq(scheduler.host_grant),
            scheduler.host_waits.eq(bridge.waits),
        ]
        return chip_bank, population_bank

    def _registers(self, m, chip, scheduler, events):
        """Joins the chip's registers with what they control and show."""
        m.d.comb += [
            scheduler.run.eq(chip.CONTROL_start),
            scheduler.stop.eq(chip.CONTROL_stop),
            scheduler.free_run.eq(chip.CONTROL_free_run),
            scheduler.event_sync.eq(chip.CONTROL_event_sync),
            scheduler.n_steps.eq(chip.RUN_STEPS_value),
            scheduler.timer_period.eq(chip.TIMER_PERIOD_value),
            scheduler.step_load.eq(chip.STEP_value_load),
            scheduler.step_load_value.eq(chip.STEP_value_load_value),
            chip.STEP_value_now.eq(scheduler.step),
            chip.STEP_CLOCKS_value_now.eq(scheduler.step_clocks),
            chip.STALL_CLOCKS_value_now.eq(scheduler.stall_clocks),
            chip.STATUS_running_now.eq(scheduler.running),
            chip.STATUS_done_set.eq(scheduler.done),
            chip.STATUS_overrun_set.eq(scheduler.overrun),
            chip.STATUS_late_event_set.eq(events.late),
            chip.STATUS_bad_event_set.eq(events.bad),
        ]
