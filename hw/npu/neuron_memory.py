"""Parameters and state of a population's neurons."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib.data import ArrayLayout, StructLayout
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import ceil_log2

from hw.bus.host_bus import HostBusSignature
from hw.memory import SinglePortMemory, TwoPortMemory
from hw.one_hot import selected
from model.npu import layout

FULL_WORD = 0b1111
LANES_PER_READ = 4
"""Lanes whose words the host's way out selects from in one clock: the way of one clock is short."""
SIGNED_FIELDS = {"bias", "i_syn"}


def shapes(fields):
    """The shape of each field of a word."""
    return {
        name: (signed if name in SIGNED_FIELDS else unsigned)(width)
        for name, (_, width) in fields.items()
    }


PARAMETER_WORDS = tuple(
    StructLayout(shapes(fields)) for fields in layout.WORD_FIELDS[: layout.STATE_WORD]
)
"""What is stored of each parameter word: the fields without the gaps."""
Parameters = StructLayout({k: v for word in PARAMETER_WORDS for k, v in word.members.items()})
"""All parameters of a neuron."""
State = StructLayout(shapes({k: v for k, v in layout.STATE_FIELDS.items() if k != "spike"}))
"""What is stored of the state; who fired stands in the population's spike register."""


def squeeze(fields, word):
    """The stored bits of a 32-bit word."""
    return Cat(word[low : low + width] for low, width in fields.values())


def spread(fields, values):
    """The 32-bit word with the fields at their places."""
    bits = [Const(0, 1)] * 32
    for name, (low, width) in fields.items():
        bits[low : low + width] = list(values[name])
    return Cat(bits)


class NeuronMemory(Component):
    """Four memories, one word per group of `n_lanes` neurons; the host sees four words per neuron.

    **Latency**: parameters and state are valid 1 clock after `read`, and stay. **Throughput**: one
    group read and one group written per clock. **Reset**: contents are not reset.

    Parameters
    ----------
    n_neurons, n_lanes : int

    Members
    -------
    read, read_group : In
    parameters, state : Out
        Of the neuron in each lane.
    write, write_group, write_state : In
        New state of a group.
    spikes : In(n_neurons)
        Who fired in the last step: a bit of the state word that the host sees.
    spike_load, spike_index, spike_value : Out
        The host writes that bit.
    bus : In(HostBusSignature())
        Must not be used together with `read` or `write`.
    """

    def __init__(self, n_neurons, n_lanes):
        self.n_neurons = n_neurons
        self.n_lanes = n_lanes
        self.n_groups = n_neurons // n_lanes
        group_width = ceil_log2(self.n_groups)
        super().__init__(
            {
                "read": In(1),
                "read_group": In(group_width),
                "parameters": Out(ArrayLayout(Parameters, n_lanes)),
                "state": Out(ArrayLayout(State, n_lanes)),
                "write": In(1),
                "write_group": In(group_width),
                "write_state": In(ArrayLayout(State, n_lanes)),
                "spikes": In(n_neurons),
                "spike_load": Out(1),
                "spike_index": Out(ceil_log2(n_neurons)),
                "spike_value": Out(1),
                "bus": In(HostBusSignature()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus

        lane_width = ceil_log2(self.n_lanes)
        word, neuron = bus.addr[2:4], bus.addr[4:]
        lane = neuron[:lane_width]
        group = Signal.like(self.read_group)
        legal = Signal()
        m.d.comb += [
            group.eq(neuron[lane_width:]),
            legal.eq((neuron < self.n_neurons) & (~bus.write | (bus.w_strb == FULL_WORD))),
        ]
        asked = Signal()
        word_1 = Signal(range(layout.WORDS_PER_NEURON))
        lane_1 = Signal(lane_width)
        spike_1 = Signal()
        m.d.sync += asked.eq(bus.valid)
        with m.If(bus.valid):
            m.d.sync += [
                bus.error.eq(~legal),
                word_1.eq(word),
                lane_1.eq(lane),
                spike_1.eq(self.spikes.bit_select(neuron[: ceil_log2(self.n_neurons)], 1)),
            ]

        stored = []
        for index in range(layout.STATE_WORD):
            access = Signal(name=f"host_access_{index}")
            m.d.comb += access.eq(bus.valid & legal & (word == index))
            stored.append(self._parameter_memory(m, index, access, group, lane))
        lanes = zip(*stored, strict=True)
        for parameters, parts in zip(self.parameters, lanes, strict=True):
            m.d.comb += parameters.as_value().eq(Cat(parts))

        access = Signal(name="host_access_state")
        m.d.comb += access.eq(bus.valid & legal & (word == layout.STATE_WORD))
        self._state_memory(m, access, group, lane)

        self._answer(m, asked, lane_1, word_1, spike_1)
        return m

    def _answer(self, m, asked, lane, word, spike):
        """The word of a lane that the host asked for, `LANES_PER_READ` lanes at a time."""
        flags, words = [], []
        for k, (parameters, state) in enumerate(zip(self.parameters, self.state, strict=True)):
            values = {name: parameters[name] for name in Parameters.members}
            values |= {name: state[name] for name in State.members} | {"spike": Cat(spike)}
            for index, fields in enumerate(layout.WORD_FIELDS):
                flag = Signal(name=f"asked_{k}_{index}")
                # What populations read does not toggle the host's way out.
                m.d.comb += flag.eq(asked & (lane == k) & (word == index))
                flags.append(flag)
                words.append(spread(fields, values))
        parts = []
        n_words = LANES_PER_READ * layout.WORDS_PER_NEURON
        for k in range(0, len(words), n_words):
            part = Signal.like(self.bus.r_data, name=f"part_{len(parts)}", reset_less=True)
            with m.If(asked):
                m.d.sync += part.eq(selected(flags[k : k + n_words], words[k : k + n_words]))
            parts.append(part)
        m.d.comb += self.bus.r_data.eq(reduce(or_, parts))

    def _parameter_memory(self, m, index, access, group, lane):
        """A memory of parameters that only the host writes; returns each lane's bits."""
        width = PARAMETER_WORDS[index].size
        fields = layout.WORD_FIELDS[index]
        m.submodules[f"parameters_{index}"] = memory = SinglePortMemory(
            depth=self.n_groups, width=width * self.n_lanes, granularity=width
        )
        m.d.comb += [
            memory.enable.eq(self.read | access),
            memory.addr.eq(Mux(self.read, self.read_group, group)),
            memory.w_data.eq(squeeze(fields, self.bus.w_data).replicate(self.n_lanes)),
            memory.w_mask.eq((access & self.bus.write) << lane),
        ]
        return [memory.r_data.word_select(k, width) for k in range(self.n_lanes)]

    def _state_memory(self, m, access, group, lane):
        """The memory of v and i_syn, written by lanes and host."""
        bus = self.bus
        m.submodules.state_memory = memory = TwoPortMemory(
            depth=self.n_groups, width=State.size * self.n_lanes, granularity=State.size
        )
        host_state = Cat(
            bus.w_data[low : low + width]
            for low, width in (layout.STATE_FIELDS[name] for name in State.members)
        )
        m.d.comb += [
            memory.r_enable.eq(self.read | access),
            memory.r_addr.eq(Mux(self.read, self.read_group, group)),
            self.state.as_value().eq(memory.r_data),
            memory.w_addr.eq(Mux(self.write, self.write_group, group)),
            memory.w_data.eq(
                Mux(self.write, self.write_state.as_value(), host_state.replicate(self.n_lanes))
            ),
            memory.w_mask.eq(self.write.replicate(self.n_lanes) | ((access & bus.write) << lane)),
            self.spike_load.eq(access & bus.write),
            self.spike_index.eq(bus.addr[4:]),
            self.spike_value.eq(bus.w_data[layout.STATE_FIELDS["spike"][0]]),
        ]
