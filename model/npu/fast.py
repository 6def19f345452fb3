"""The fast engine: bit for bit what `model.npu.engine` computes, compiled by numba for one core.

Neurons are worked on in blocks of `LANES`. All numbers of a block lie at constant distances in one
row of `cells`, because only then does LLVM turn the plain loops below into vector code without
checking at run time which arrays overlap.

Weights are signed bytes, either a dense matrix cut into blocks of columns or, for large sparse
networks, compressed sparse rows (CSR). Both sum exactly, so both give the same bits.

numba's cache looks at the date of this file only: touch it after changing an imported constant.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from model.npu import noise
from model.npu.clocks import Clocks
from model.npu.config import BIAS_MAX, BIAS_MIN, I_MAX, I_MIN, NPUConfig
from model.npu.engine import NO_CLOCKS
from model.npu.network import Network, NetworkError
from model.npu.soma import V_MAX
from model.npu.trace import Trace

Ints = NDArray[np.int64]
Int32s = NDArray[np.int32]
Int16s = NDArray[np.int16]
Int8s = NDArray[np.int8]
Bytes = NDArray[np.uint8]
Indices = NDArray[np.uint32]
NO_EVENTS = np.zeros((0, 2), np.int64)

LANES = 64
"""Neurons of a block; 64 weights of one byte fill one line of the cache."""
ROWS_PER_SUM = 256
"""Rows of weights that 16 bits can sum: 256 * -128 = -2**15."""
MAX_ROWS = (1 << 24) - (1 << 8)
"""Rows of weights that 32 bits can sum, the current included."""
DENSE_ALWAYS, DENSE_NEVER = 1 << 20, 1 << 28
"""Bytes of a dense matrix that stays in the cache, and of one that is too large to build."""
DENSE_SHARE = 1 / 32
"""Share of non-zero weights from which on adding whole rows beats adding single weights."""

# What `cells` holds of every neuron: state, results of the last step, parameters. `keep` is 0 for
# a neuron without decay unit and -1 (all ones) for the others.
N_FIELDS = 16
V, I_SYN, BIAS, NOISE, USED, OUTSIDE, COUNT = range(0, 7 * LANES, LANES)
REST, THRESHOLD, RESET, V_BRANCH, A, B = range(7 * LANES, 13 * LANES, LANES)
STRENGTH, SHIFT, KEEP = range(13 * LANES, N_FIELDS * LANES, LANES)


class _Synapses(NamedTuple):
    """Weights in one of two forms; the arrays of the other form have no elements.

    dense (blocks, rows, LANES); or, in the CSR form, row r is row_ends[r] to row_ends[r + 1] of
    `targets`, positions in `cells`, and of `weights`.
    """

    dense: Int8s
    row_ends: Ints
    targets: Indices
    weights: Int8s


class _Populations(NamedTuple):
    """Where the populations are, and how they are wired.

    starts (P + 1,): first neuron; noisy_ends (P,): end of the neurons that draw noise, all or none;
    links (k, 2): from, to; jump (4, 256): next state of a noise generator, byte by byte.
    """

    starts: Ints
    noisy_ends: Ints
    links: Ints
    jump: Ints


class _Events(NamedTuple):
    """(k,) each: step counted from the first one of the run, row of weights, population."""

    steps: Ints
    rows: Ints
    populations: Ints


class _Record(NamedTuple):
    """Traces, (steps, n) each, or (0, n) if nothing is recorded."""

    v: Bytes
    spikes: Bytes
    i_syn: Int16s
    noise: Int8s


def _sum_rows_code(_: Any, weights: Any, fired: Any, first: Any, last: Any, sums: Any) -> Any:
    """Code of sums[:] = weights[fired[first:last]].sum(axis=0) for at most `ROWS_PER_SUM` rows.

    Written in LLVM's terms so that the sums stay in vector registers: of a Python loop, LLVM makes
    vectors of several rows instead of several columns, which is slow.

    weights (rows, LANES) int8; fired (rows,) uint32; sums (LANES,) int16.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        weights, fired, sums = (
            context.make_array(signature.args[k])(context, builder, arguments[k]).data
            for k in (0, 1, 4)
        )
        first, last = arguments[2:4]
        line_type = ir.VectorType(ir.IntType(8), LANES)
        sums_type = ir.VectorType(ir.IntType(16), LANES)
        with builder.goto_entry_block():
            total = builder.alloca(sums_type)
        builder.store(ir.Constant(sums_type, [0] * LANES), total)
        with cgutils.for_range(builder, last, start=first) as loop:
            row = builder.zext(builder.load(builder.gep(fired, [loop.index])), last.type)
            line = builder.gep(weights, [builder.mul(row, last.type(LANES))])
            line = builder.load(builder.bitcast(line, line_type.as_pointer()), align=1)
            line = builder.sext(line, sums_type)
            builder.store(builder.add(builder.load(total), line), total)
        sums = builder.bitcast(sums, sums_type.as_pointer())
        builder.store(builder.load(total), sums, align=2)
        return context.get_dummy_value()

    return types.void(weights, fired, first, last, sums), generate


_sum_rows: Callable[..., None] = intrinsic(_sum_rows_code)


@njit(cache=True, forceinline=True)
def _accumulate_dense(block: Int32s, weights: Int8s, fired: Indices, sums: Int16s) -> None:
    """Add the weights of the fired rows to the currents of one block."""
    for first in range(0, len(fired), ROWS_PER_SUM):
        _sum_rows(weights, fired, first, min(first + ROWS_PER_SUM, len(fired)), sums)
        for c in range(LANES):
            block[I_SYN + c] += sums[c]


@njit(cache=True, forceinline=True)
def _accumulate_sparse(currents: Int32s, synapses: _Synapses, fired: Indices) -> None:
    """Add the weights of the fired rows to the currents of all neurons."""
    for row in fired:
        for s in range(synapses.row_ends[row], synapses.row_ends[row + 1]):
            currents[synapses.targets[s]] += synapses.weights[s]


@njit(cache=True, forceinline=True)
def _update(block: Int32s, spikes: Bytes) -> np.int32:
    """Saturate, decay, soma and clear of one block; not 0 if a current saturated.

    np.int32() where numba would go on in 64 bits: half as many lanes would fit a vector.
    """
    outside = np.int32(0)
    for c in range(LANES):
        exact = block[I_SYN + c]
        i = min(max(exact, np.int32(I_MIN)), np.int32(I_MAX))
        block[OUTSIDE + c] = i ^ exact
        outside |= i ^ exact

        keep = block[KEEP + c]
        shifted = np.int32(i >> block[SHIFT + c])
        leak = (shifted == 0) & (i > 0)
        i = np.int32(i - ((shifted + leak) & keep))
        block[USED + c] = i
        block[I_SYN + c] = i & keep

        v = block[V + c]
        left = np.int32(block[A + c] * (block[REST + c] - v))
        right = np.int32(block[B + c] * (v - block[THRESHOLD + c]))
        force = left if v < block[V_BRANCH + c] else right
        v = np.int32(v + (force >> 3) + i + block[BIAS + c] + block[NOISE + c])
        spike = v > V_MAX
        block[V + c] = block[RESET + c] if spike else max(v, np.int32(0))
        block[COUNT + c] += spike
        spikes[c] = spike
    return outside


@njit(cache=True, forceinline=True)
def _collect(spikes: Bytes, starts: Ints, fired: Indices, fired_by: Ints) -> int:
    """List the neurons that fired, without a branch; count them, in all and by population."""
    n_fired = 0
    for p in range(len(fired_by)):
        before = n_fired
        for j in range(starts[p], starts[p + 1]):
            fired[n_fired] = j
            n_fired += spikes[j]
        fired_by[p] = n_fired - before
    return n_fired


@njit(cache=True, forceinline=True)
def _draw_noise(cells: Int32s, populations: _Populations, states: Ints) -> None:
    """Draw the noise of one step and jump the generators to the next."""
    jump = populations.jump
    for p in range(len(states)):
        x = states[p]
        states[p] = (
            jump[0, x & 255] ^ jump[1, x >> 8 & 255] ^ jump[2, x >> 16 & 255] ^ jump[3, x >> 24]
        )
        for j in range(populations.starts[p], populations.noisy_ends[p]):
            x ^= (x << 13) & noise.MASK
            x ^= x >> 17
            x ^= (x << 5) & noise.MASK
            block, c = cells[j // LANES], j % LANES
            strength = block[STRENGTH + c]
            block[NOISE + c] = ((x >> 16) * strength >> 16) - (strength >> 1)


@njit(cache=True, forceinline=True)
def _flag_saturation(cells: Int32s, starts: Ints, saturated: Bytes) -> None:
    """Find the populations, (P,), in which a current saturated."""
    for p in range(len(saturated)):
        for j in range(starts[p], starts[p + 1]):
            saturated[p] |= cells[j // LANES, OUTSIDE + j % LANES] != 0


@njit(cache=True, forceinline=True)
def _write(record: _Record, t: int, cells: Int32s, spikes: Bytes) -> None:
    """Record one time step."""
    n = record.v.shape[1]
    for first in range(0, n, LANES):
        block = cells[first // LANES]
        for c in range(min(LANES, n - first)):
            record.v[t, first + c] = block[V + c]
            record.spikes[t, first + c] = spikes[first + c]
            record.i_syn[t, first + c] = block[USED + c]
            record.noise[t, first + c] = block[NOISE + c]


@njit(cache=True)
def _run(
    cells: Int32s,
    spikes: Bytes,
    states: Ints,
    synapses: _Synapses,
    populations: _Populations,
    events: _Events,
    fired: Indices,
    rows: Int32s,
    saturated: Bytes,
    record: _Record,
) -> None:
    """All len(rows) time steps of a run. `fired` has room for every row of weights."""
    fired_by = np.zeros(len(states), np.int64)
    sums = np.zeros(LANES, np.int16)
    event = 0
    for t in range(len(rows)):
        n_fired = _collect(spikes, populations.starts, fired, fired_by)
        for k in range(len(populations.links)):
            rows[t, populations.links[k, 1]] += fired_by[populations.links[k, 0]]
        while event < len(events.steps) and events.steps[event] == t:
            fired[n_fired] = events.rows[event]
            n_fired += 1
            rows[t, events.populations[event]] += 1
            event += 1

        _draw_noise(cells, populations, states)
        if len(synapses.dense) == 0:
            _accumulate_sparse(cells.reshape(-1), synapses, fired[:n_fired])
        outside = np.int32(0)
        for b in range(len(cells)):
            if len(synapses.dense) > 0:
                _accumulate_dense(cells[b], synapses.dense[b], fired[:n_fired], sums)
            outside |= _update(cells[b], spikes[b * LANES : (b + 1) * LANES])
        if outside != 0:
            _flag_saturation(cells, populations.starts, saturated[t])
        if len(record.v) > 0:
            _write(record, t, cells, spikes)


@dataclass(frozen=True)
class Activity:
    """What is left of time steps that were not recorded.

    Parameters
    ----------
    first_step, rows, saturated
        As in `Trace`.
    spike_counts : (n,) int
        How often each neuron fired in these steps.
    """

    first_step: int
    rows: Int32s
    saturated: NDArray[np.bool_]
    spike_counts: Ints


class FastEngine:
    """A network's state and its `run()`.

    Parameters
    ----------
    network : Network
    dense : bool, optional
        Whether the weights are a dense matrix rather than CSR; by default the faster one.
    config : NPUConfig, optional
        The chip whose clocks the traces carry; without it they carry none.

    Attributes
    ----------
    spikes : (n,) bool
        Who fired in the last step.
    step_index : int
        The time step with which `run()` will begin.
    """

    def __init__(
        self, network: Network, *, dense: bool | None = None, config: NPUConfig | None = None
    ) -> None:
        n, neurons = network.n_neurons, network.neurons
        n_rows = n + sum(network.axons)
        if n_rows > MAX_ROWS:
            raise NetworkError(f"neurons and axons must be at most {MAX_ROWS}, not {n_rows}")
        n_blocks = -(-n // LANES)
        self.network = network
        self.step_index = 0
        self._clocks = Clocks(network, config) if config else None
        self._cells = np.zeros((n_blocks, N_FIELDS * LANES), np.int32)
        self._block, self._lane = np.divmod(np.arange(n), LANES)
        self._spikes = np.zeros(n_blocks * LANES, np.uint8)
        self.spikes = self._spikes[:n].view(np.bool_)
        self._states = np.array([noise.seed_state(s) for s in network.noise_seeds], np.int64)
        self._fired = np.zeros(n_rows, np.uint32)
        self._synapses = _synapses(network, n_rows, n_blocks, dense=dense)
        self._populations = _populations(network)
        for field, values in (
            *((V, neurons.rest), (REST, neurons.rest), (THRESHOLD, neurons.threshold)),
            *((RESET, neurons.reset), (V_BRANCH, neurons.v_branch), (A, neurons.a), (B, neurons.b)),
            *((STRENGTH, neurons.noise), (SHIFT, np.frexp(np.maximum(neurons.tau, 1))[1] - 1)),
            (KEEP, np.where(neurons.tau == 0, 0, -1)),
        ):
            self._cells[self._block, field + self._lane] = values

    @property
    def v(self) -> Ints:
        """Membrane potential, (n,); this and the next two are copies that cannot be written."""
        return self._read(V)

    @property
    def i_syn(self) -> Ints:
        """Current left by the last step, (n,)."""
        return self._read(I_SYN)

    @property
    def bias(self) -> Ints:
        """External stimulus, (n,)."""
        return self._read(BIAS)

    @property
    def noise_states(self) -> list[int]:
        """Generator state of every population."""
        return [int(state) for state in self._states]

    def _read(self, field: int) -> Ints:
        values: Ints = self._cells[self._block, field + self._lane].astype(np.int64)
        values.setflags(write=False)
        return values

    def set_bias(self, bias: dict[int, int]) -> None:
        """Change the external stimulus of some neurons; it stays until it is changed again."""
        for neuron, value in bias.items():
            if not 0 <= neuron < self.network.n_neurons:
                raise ValueError(f"neuron must be 0..{self.network.n_neurons - 1}, not {neuron}")
            if not BIAS_MIN <= value <= BIAS_MAX:
                raise ValueError(
                    f"bias of neuron {neuron} must be {BIAS_MIN}..{BIAS_MAX}, not {value}"
                )
            self._cells[neuron // LANES, BIAS + neuron % LANES] = value

    @overload
    def run(
        self, steps: int, events: Ints = NO_EVENTS, *, record: Literal[True] = True
    ) -> Trace: ...

    @overload
    def run(self, steps: int, events: Ints = NO_EVENTS, *, record: Literal[False]) -> Activity: ...

    def run(self, steps: int, events: Ints = NO_EVENTS, *, record: bool = True) -> Trace | Activity:
        """Run the next time steps.

        Parameters
        ----------
        steps : int
            How many.
        events : (k, 2) int
            (time step, axon) of the axons that fire in these steps, sorted, no pair twice.
        record : bool
            Return a `Trace`; otherwise only the small `Activity`, for long runs.
        """
        if steps < 0:
            raise ValueError(f"steps must be at least 0, not {steps}")
        first_step, n = self.step_index, self.network.n_neurons
        self._check(steps, events)
        rows = np.zeros((steps, len(self.network.populations)), np.int32)
        saturated = np.zeros(rows.shape, np.uint8)
        shape = (steps if record else 0, n)
        traces = _Record(
            v=np.empty(shape, np.uint8),
            spikes=np.empty(shape, np.uint8),
            i_syn=np.empty(shape, np.int16),
            noise=np.empty(shape, np.int8),
        )
        self._cells[:, COUNT : COUNT + LANES] = 0
        spikes_before = self.spikes[None].copy()
        _run(
            self._cells,
            self._spikes,
            self._states,
            self._synapses,
            self._populations,
            _Events(
                steps=(events[:, 0] - first_step).astype(np.int64),
                rows=(events[:, 1] + n).astype(np.int64),
                populations=self.network.population_of_axon(events[:, 1]),
            ),
            self._fired,
            rows,
            saturated,
            traces,
        )
        self.step_index += steps
        flags = saturated.view(np.bool_)
        if not record:
            return Activity(first_step, rows, flags, self._read(COUNT))
        spikes = traces.spikes.view(np.bool_)
        clocks = NO_CLOCKS
        if self._clocks is not None:
            before = np.concatenate([spikes_before, spikes])[:steps]
            clocks = self._clocks.of_steps(before, events - np.array([first_step, 0]))
        return Trace(
            first_step=first_step,
            v=traces.v,
            spikes=spikes,
            i_syn=traces.i_syn,
            noise=traces.noise,
            rows=rows,
            saturated=flags,
            clocks=clocks,
        )

    def _check(self, steps: int, events: Ints) -> None:
        """Refuse events that would be lost, or that would write where nothing belongs."""
        step, axon = events[:, 0], events[:, 1]
        n_axons = sum(self.network.axons)
        last = self.step_index + steps - 1
        for k in np.flatnonzero((step < self.step_index) | (step > last))[:1]:
            raise ValueError(f"events[{k}]: step must be {self.step_index}..{last}, not {step[k]}")
        for k in np.flatnonzero((axon < 0) | (axon >= n_axons))[:1]:
            raise ValueError(f"events[{k}]: axon must be below {n_axons}, not {axon[k]}")
        for k in np.flatnonzero(np.diff(step * n_axons + axon) <= 0)[:1] + 1:
            raise ValueError(
                f"events must be sorted and different: axon {axon[k]} at step {step[k]} is not"
            )


def _synapses(network: Network, n_rows: int, n_blocks: int, *, dense: bool | None) -> _Synapses:
    """The weights of neurons, then axons, dense or CSR."""
    pre = np.concatenate([network.recurrent.pre, network.external.pre + network.n_neurons])
    post = np.concatenate([network.recurrent.post, network.external.post])
    weight = np.concatenate([network.recurrent.weight, network.external.weight]).astype(np.int8)
    size = n_blocks * n_rows * LANES
    if dense is None:
        dense = size <= DENSE_ALWAYS or (size < DENSE_NEVER and len(pre) >= DENSE_SHARE * size)
    block, lane = np.divmod(post, LANES)
    if dense:
        room = np.zeros(size + LANES, np.int8)
        start = -room.ctypes.data % LANES  # a row then fills exactly one line of the cache
        matrix = room[start : start + size].reshape(n_blocks, n_rows, LANES)
        matrix[block, pre, lane] = weight
        return _Synapses(
            dense=matrix,
            row_ends=np.zeros(0, np.int64),
            targets=np.zeros(0, np.uint32),
            weights=np.zeros(0, np.int8),
        )
    order = np.lexsort((post, pre))
    return _Synapses(
        dense=np.zeros((0, n_rows, LANES), np.int8),
        row_ends=np.searchsorted(pre[order], np.arange(n_rows + 1)),
        targets=(block * N_FIELDS * LANES + I_SYN + lane)[order].astype(np.uint32),
        weights=weight[order],
    )


def _populations(network: Network) -> _Populations:
    populations = range(len(network.populations))
    starts = np.cumsum([0, *network.populations])
    noisy = np.array(
        [(network.neurons.noise[network.neuron_slice(p)] > 1).any() for p in populations]
    )
    links = [(source, p) for p in populations for source in network.sources(p)]
    return _Populations(
        starts=starts,
        noisy_ends=np.where(noisy, starts[1:], starts[:-1]),
        links=np.array(links, np.int64).reshape(-1, 2),
        jump=_jump_tables(),
    )


@cache
def _jump_tables() -> Ints:
    """What each value of each byte of a generator's state adds to the state of the next step."""
    return np.array([[noise.jump(b << 8 * k) for b in range(256)] for k in range(4)])
