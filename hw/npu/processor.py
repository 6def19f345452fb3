"""The neural processing units: populations, scheduler, event streams and their registers."""

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib.wiring import Component, In, Out, Signature, connect, flipped

from hw.bus.axi_stream import AXI4StreamSignature
from hw.bus.host_bus import HostBusSignature
from hw.bus.registers import FULL_WORD, RegisterBank
from hw.npu.event_input import EventInput, field
from hw.npu.population import Population, RetirementSignature
from hw.npu.scheduler import Scheduler
from hw.npu.spike_output import SpikeOutput
from model.bridge import INDEX_WIDTH, POPULATION_WIDTH, STEPS_WIDTH
from model.npu.config import BIAS_WIDTH
from model.npu.events import INDEX_FIELD, POPULATION_FIELD
from model.npu.layout import BIAS_WORD, WORDS_PER_NEURON
from model.npu.registers import register_map

CHIP_REGION = 0x100
POPULATION_BASE = 0x1000
IMMEDIATE_WRITES = ("CONTROL", "STATUS")


class StimulusSignature(Signature):
    """Stimuli and bursts of time steps from inside of the chip, as who makes them sees it.

    Members
    -------
    request, grant : Out(1), In(1)
        No time step begins while `request` is set, and the host's accesses wait; with `grant` none
        is under way, or only one that has computed everything. It stays up to the end of `request`.
    write : Out(1)
        Only with `grant`, from the clock after `request` rose on: a neuron's bias becomes `bias`,
        or the axon has an event in the next time step. Nothing happens if there is none such.
    is_axon, population, index, bias : Out
    idle : In(1)
        No run is under way, and the host starts none in this clock.
    reserve : Out(1)
        No run of the host begins: the populations count as running.
    run, n_steps : Out(1), Out(16)
        Begin a run, while `reserve` is set and none is under way; one of so many steps, whatever
        the host's registers say.
    done : In(1)
        One clock: the run has ended, and its last spike has left two clocks ago at the latest.
    spike, spike_population, spike_index : In
        A spike leaves the chip.
    """

    def __init__(self):
        super().__init__(
            {
                "request": Out(1),
                "grant": In(1),
                "write": Out(1),
                "is_axon": Out(1),
                "population": Out(POPULATION_WIDTH),
                "index": Out(INDEX_WIDTH),
                "bias": Out(signed(BIAS_WIDTH)),
                "idle": In(1),
                "reserve": Out(1),
                "run": Out(1),
                "n_steps": Out(STEPS_WIDTH),
                "done": In(1),
                "spike": In(1),
                "spike_population": In(POPULATION_WIDTH),
                "spike_index": In(INDEX_WIDTH),
            }
        )


class NPUProcessor(Component):
    """Everything of the neural processing units behind the decoder of the chip.

    Parameters
    ----------
    config : NPUConfig
    trace : bool
        Add the retirement ports.
    bridged : bool
        Add the port for stimuli from inside of the chip.

    Attributes
    ----------
    regions : list of (int, int)
        First byte address and size of what each of `targets` answers.
    pins : dict
        Those of the members that are ports of the chip.

    Members
    -------
    targets : Array of In(HostBusSignature())
        Registers of the chip, of the populations, and the memories (model/npu/registers.rdl).
    hold : Out(1)
        The request at one of the targets waits for the end of a step.
    irq : Out(1)
        A run has ended, if enabled.
    stimuli : In(StimulusSignature()), if asked for
    s_axis_events, m_axis_spikes, trace_... :
        As `hw.top.Kenyon`.
    """

    def __init__(self, config, *, trace=False, bridged=False):
        self.config = config
        self.trace = trace
        self.bridged = bridged
        self.registers = register_map(config)
        self.regions = [(0, CHIP_REGION), (POPULATION_BASE, 0x10 * config.n_populations)]
        for p in range(config.n_populations):
            for memory in (f"neurons[{p}]", f"weights[{p}]"):
                region = self.registers.memories[memory]
                self.regions.append((region.address, 4 * region.n_words))
        self.pins = {
            "s_axis_events": In(AXI4StreamSignature()),
            "m_axis_spikes": Out(AXI4StreamSignature()),
        }
        if trace:
            retirement = RetirementSignature(config.n_groups, config.n_lanes)
            self.pins |= {f"trace_{p}": Out(retirement) for p in range(config.n_populations)}
            self.pins |= {
                "trace_commit": Out(1),
                "trace_step_clocks": Out(32),
                "trace_stall_clocks": Out(32),
            }
        super().__init__(
            {
                "targets": In(HostBusSignature()).array(len(self.regions)),
                "hold": Out(1),
                "irq": Out(1),
                **({"stimuli": In(StimulusSignature())} if bridged else {}),
                **self.pins,
            }
        )

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
        if self.bridged:
            self._writes(m, events, populations)
            self._burst(m, chip, scheduler, spikes, clear)
        return m

    def _host(self, m, scheduler, populations):
        """Register banks, memories and what waits at them."""
        registers = self.registers.registers.values()
        own = [r for r in registers if r.address < CHIP_REGION]
        others = [r for r in registers if r.address >= POPULATION_BASE]
        m.submodules.chip_registers = chip_bank = RegisterBank(own, 0)
        m.submodules.population_registers = population_bank = RegisterBank(others, POPULATION_BASE)
        buses = [chip_bank.bus, population_bank.bus]
        for population in populations:
            buses += [population.neuron_bus, population.weight_bus]
        for target, bus in zip(self.targets, buses, strict=True):
            connect(m, flipped(target), bus)

        chip, *waiting = self.targets
        immediate = Signal()
        waits = Signal()
        # The address stands from the clock before the request on.
        m.d.sync += immediate.eq(
            Cat(chip.addr == self.registers[name] for name in IMMEDIATE_WRITES).any()
        )
        m.d.comb += [
            waits.eq(
                Cat(target.request for target in waiting).any()
                | (chip.request & chip.write & ~immediate)
            ),
            scheduler.host_waits.eq(waits | Cat(p.updating for p in populations).any()),
            self.hold.eq(waits & ~scheduler.host_grant),
        ]
        if self.bridged:
            m.d.comb += self.stimuli.grant.eq(scheduler.host_grant)
            with m.If(self.stimuli.request):
                m.d.comb += [scheduler.host_waits.eq(1), self.hold.eq(waits)]
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

    def _writes(self, m, events, populations):
        """Stimuli from inside of the chip, between the host's accesses and its events."""
        stimuli = self.stimuli
        event = Signal()
        m.d.comb += event.eq(
            stimuli.write & stimuli.is_axon & (stimuli.index < self.config.n_axons)
        )
        with m.If(event):
            m.d.comb += events.hold.eq(1)
        for p, population in enumerate(populations):
            bus = population.neuron_bus
            with m.If(stimuli.population == p):
                with m.If(event):
                    m.d.comb += [population.axon_event.eq(1), population.axon.eq(stimuli.index)]
                with m.If(stimuli.write & ~stimuli.is_axon):
                    m.d.comb += [
                        bus.valid.eq(1),
                        bus.write.eq(1),
                        bus.w_strb.eq(FULL_WORD),
                        bus.addr.eq((stimuli.index * WORDS_PER_NEURON + BIAS_WORD) << 2),
                        bus.w_data.eq(stimuli.bias),
                    ]

    def _burst(self, m, chip, scheduler, spikes, clear):
        """Runs from inside of the chip; the host's settings and flags are for its own ones."""
        stimuli = self.stimuli
        axis = spikes.axis
        m.d.comb += [
            stimuli.idle.eq(~scheduler.running & ~chip.CONTROL_start),
            stimuli.done.eq(scheduler.done),
            stimuli.spike.eq(axis.tvalid & axis.tready),
            stimuli.spike_population.eq(field(axis.tdata, POPULATION_FIELD)),
            stimuli.spike_index.eq(field(axis.tdata, INDEX_FIELD)),
        ]
        with m.If(stimuli.reserve):
            m.d.comb += [
                scheduler.run.eq(stimuli.run),
                scheduler.n_steps.eq(stimuli.n_steps),
                scheduler.free_run.eq(0),
                chip.STATUS_done_set.eq(0),
                chip.STATUS_running_now.eq(1),
                clear.eq(0),
            ]
