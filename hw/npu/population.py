"""A population: the walker, the memories, L lanes of post-synaptic unit and soma, and noise."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import Component, In, Out, Signature, connect, flipped
from amaranth.utils import ceil_log2

from hw.bus.host_bus import HostBusSignature
from hw.delay import delayed
from hw.npu.neuron_memory import NeuronMemory
from hw.npu.noise import STATE_WIDTH, NoiseGenerator
from hw.npu.post_synaptic import PostSynapticUnit
from hw.npu.row_walker import RowWalker
from hw.npu.soma import Soma
from hw.npu.weight_memory import WeightMemory

WRITE_STAGE = 5
"""Clocks from the slot that closes a group to the write of its neurons' state."""
SATURATED_STAGE = 2
NOISE_STAGE = 3
I_SYN_STAGE = 4


class RetirementSignature(Signature):
    """One group of neurons that has finished its time step: one entry per lane and clock.

    Members
    -------
    valid, group : Out
    v, i_syn, spike, noise : Out
        Membrane potential after the step, the decayed current and the draw that it used.
    saturated : Out(1)
        A current of the group has saturated.
    """

    def __init__(self, n_groups, n_lanes):
        super().__init__(
            {
                "valid": Out(1),
                "group": Out(max(1, ceil_log2(n_groups))),
                "v": Out(ArrayLayout(unsigned(8), n_lanes)),
                "i_syn": Out(ArrayLayout(signed(16), n_lanes)),
                "spike": Out(n_lanes),
                "noise": Out(ArrayLayout(signed(8), n_lanes)),
                "saturated": Out(1),
            }
        )


class Population(Component):
    """Runs one time step per `start`: accumulate, decay, soma, group by group.

    A row is a neuron of this population or of a linked one that fired in the last step, or an
    external axon with an event. While a group's rows are walked its currents stay in the lanes;
    rows whose weights onto the group are all zero are left out.

    **Latency**: 8 clocks from `start` until `busy` falls, one for each group, and one for each row
    walked in it.
    **Reset**: nobody has fired, no event.

    Parameters
    ----------
    config : NPUConfig
    index : int
        Which population of the configuration this is.
    trace : bool
        Add the retirement port.

    Members
    -------
    start, commit : In(1)
        Begin the time step; end it: the spikes found become those of the last step.
    clear : In(1)
        Forget who has fired and the events collected; only between time steps.
    n_groups, links : In
        Groups and links in use.
    linked_spikes : In
        Spikes of the linked populations in the last step, one after the other.
    axon_event, axon : In
        An external event for the next time step; not together with `start`.
    busy : Out(1)
    updating : Out(1)
        The host's write to the weights is not over: no `start`.
    saturated : Out(1)
        A current has just saturated.
    spikes : Out(n_neurons)
        Who fired in the last step.
    noise_load, noise_load_value, noise_state : In, In, Out
    neuron_bus, weight_bus : In(HostBusSignature())
        Only between time steps.
    trace : Out(RetirementSignature(...)), if asked for
    """

    def __init__(self, config, index, trace):
        self.config = config
        self.index = index
        self.trace_port = trace
        self.n_links = len(config.sources(index)) - 1
        n, lanes, groups = config.n_neurons, config.n_lanes, config.n_groups
        super().__init__(
            {
                "start": In(1),
                "commit": In(1),
                "clear": In(1),
                "n_groups": In(range(groups + 1)),
                "links": In(self.n_links),
                "linked_spikes": In(self.n_links * n),
                "axon_event": In(1),
                "axon": In(ceil_log2(config.n_axons)),
                "busy": Out(1),
                "updating": Out(1),
                "saturated": Out(1),
                "spikes": Out(n),
                "noise_load": In(1),
                "noise_load_value": In(STATE_WIDTH),
                "noise_state": Out(STATE_WIDTH),
                "neuron_bus": In(HostBusSignature()),
                "weight_bus": In(HostBusSignature()),
                **({"trace": Out(RetirementSignature(groups, lanes))} if trace else {}),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        n_rows = config.n_rows(self.index)

        m.submodules.walker = walker = RowWalker(n_rows, config.n_groups)
        m.submodules.weight_memory = weights = WeightMemory(n_rows, config.n_groups, config.n_lanes)
        m.submodules.neuron_memory = neurons = NeuronMemory(config.n_neurons, config.n_lanes)
        m.submodules.noise_generator = noise = NoiseGenerator(config.n_lanes)
        connect(m, flipped(self.neuron_bus), neurons.bus)
        connect(m, flipped(self.weight_bus), weights.bus)

        axons = self._axons(m)
        linked = (
            Mux(self.links[k], self.linked_spikes.word_select(k, config.n_neurons), 0)
            for k in range(self.n_links)
        )
        slot = walker.slot.payload
        row = Signal()
        close = Signal()
        group_base = Signal.like(weights.addr)
        m.d.comb += [
            walker.start.eq(self.start),
            walker.n_passes.eq(self.n_groups),
            walker.rows.eq(Cat(self.spikes, *linked, axons)),
            walker.slot.ready.eq(1),
            walker.mask.eq(weights.filled),
            weights.read_filled.eq(walker.read),
            weights.filled_group.eq(walker.read_pass),
            self.updating.eq(weights.updating),
            row.eq(walker.slot.valid & ~slot.close),
            close.eq(walker.slot.valid & slot.close),
            weights.read.eq(row),
            weights.addr.eq(group_base + slot.row),
            neurons.read.eq(close),
            neurons.read_group.eq(slot.index),
        ]
        with m.If(self.start):
            m.d.sync += group_base.eq(0)
        with m.Elif(close):
            m.d.sync += group_base.eq(group_base + n_rows)

        row_1 = Signal()
        more = Signal()
        m.d.sync += row_1.eq(row)
        with m.If(close):
            m.d.sync += more.eq(slot.index + 1 != self.n_groups)
        closes = delayed(m, "close", 1, close, WRITE_STAGE)[1:]
        m.d.comb += [
            self.busy.eq(walker.busy | Cat(closes).any()),
            noise.start.eq(self.start & self.n_groups.any()),
            noise.commit.eq(self.commit),
            noise.next.eq(closes[0]),
            noise.more.eq(more),
            noise.load.eq(self.noise_load),
            noise.load_state.eq(self.noise_load_value),
            self.noise_state.eq(noise.state),
        ]
        fired = self._lanes(m, row_1, closes, weights, neurons, noise)
        # Groups finish in the order in which they close.
        write = closes[-1]
        group = Signal.like(neurons.write_group)
        with m.If(self.start | write):
            m.d.sync += group.eq(Mux(self.start, 0, group + 1))
        m.d.comb += [
            neurons.write.eq(write),
            neurons.write_group.eq(group),
        ]
        if self.trace_port:
            m.d.comb += [
                self.trace.valid.eq(write),
                self.trace.group.eq(group),
                self.trace.spike.eq(fired),
                self.trace.saturated.eq(
                    delayed(m, "saturated", 1, self.saturated, WRITE_STAGE - SATURATED_STAGE)[-1]
                ),
            ]
        self._spikes(m, neurons, write, group, fired)
        return m

    def _axons(self, m):
        """External events: collected for the next step while those of this one are walked."""
        axons = Signal(self.config.n_axons)
        axons_next = Signal(self.config.n_axons)
        empty = self.clear | self.start
        with m.If(empty | self.axon_event):
            m.d.sync += axons_next.eq(Mux(empty, 0, axons_next | (1 << self.axon)))
        with m.If(self.start & ~self.clear):
            m.d.sync += axons.eq(axons_next)
        return axons

    def _spikes(self, m, neurons, write, group, fired):
        """Who fired in the last step, and who fires in this one."""
        spikes_next = Signal(self.config.n_neurons)
        with m.If(self.commit):
            m.d.sync += spikes_next.eq(0)
        with m.Elif(write):
            m.d.sync += spikes_next.word_select(group, self.config.n_lanes).eq(fired)

        # One enable for all bits, so that one gate stops their clock.
        loaded = Signal(self.config.n_neurons)
        index = 1 << neurons.spike_index
        m.d.comb += [
            loaded.eq((self.spikes & ~index) | Mux(neurons.spike_value, index, 0)),
            neurons.spikes.eq(self.spikes),
        ]
        with m.If(self.clear | self.commit | neurons.spike_load):
            m.d.sync += self.spikes.eq(Mux(self.clear, 0, Mux(self.commit, spikes_next, loaded)))

    def _lanes(self, m, row, closes, weights, neurons, noise):
        """One post-synaptic unit and one soma per lane; returns who fires."""
        fired = Signal(self.config.n_lanes)
        saturated = Signal(self.config.n_lanes)
        m.d.comb += self.saturated.eq(closes[1] & saturated.any())
        m.submodules.post_synaptic_units = units = Module()
        m.submodules.somas = somas = Module()
        for k in range(self.config.n_lanes):
            units.submodules[f"lane_{k}"] = unit = PostSynapticUnit(self.config.n_rows(self.index))
            somas.submodules[f"lane_{k}"] = soma = Soma()
            p, state, write = neurons.parameters[k], neurons.state[k], neurons.write_state[k]
            m.d.comb += [
                unit.add.eq(row),
                unit.weight.eq(weights.weights[k]),
                unit.close.eq(closes[0]),
                unit.i_old.eq(state.i_syn),
                unit.tau_log2.eq(p.tau_log2),
                unit.no_decay.eq(p.no_decay),
                saturated[k].eq(unit.saturated),
                noise.strength[k].eq(p.noise),
                soma.enable.eq(closes[0]),
                soma.v.eq(state.v),
                soma.noise.eq(noise.draw[k]),
                soma.i_syn.eq(unit.i_syn),
                write.v.eq(soma.v_next),
                write.i_syn.eq(unit.i_next),
                fired[k].eq(soma.spike),
            ]
            m.d.comb += [
                getattr(soma, name).eq(p[name])
                for name in ("rest", "threshold", "reset", "v_branch", "a", "b", "bias")
            ]
            if self.trace_port:
                self._retire(m, k, soma.v_next, unit.i_syn, noise.draw[k])
        return fired

    def _retire(self, m, lane, v_next, i_syn, draw):
        """Hold what the lane used until its result is there."""
        draws = delayed(m, f"draw_{lane}", draw.shape(), draw, WRITE_STAGE - NOISE_STAGE)
        currents = delayed(m, f"i_syn_{lane}", i_syn.shape(), i_syn, WRITE_STAGE - I_SYN_STAGE)
        m.d.comb += [
            self.trace.v[lane].eq(v_next),
            self.trace.i_syn[lane].eq(currents[-1]),
            self.trace.noise[lane].eq(draws[-1]),
        ]
