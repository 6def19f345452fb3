"""The records that `trace_monitor.sv` writes, and where it is bound into the chip."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model.mars.config import MarsConfig
from model.npu.config import NPUConfig
from model.npu.events import read_beat
from tb.bench import CLOCK_NS

RETIREMENT, COMMIT, SPIKE, END = range(4)


def record_words(config: NPUConfig) -> int:
    """32-bit words per record: a tag, the time, and room for the largest payload."""
    return 2 + max(3, -(-(33 * config.n_lanes + 1) // 32))


def bindings(config: NPUConfig) -> str:
    """SystemVerilog that binds the monitors to the chip's ports."""
    words = record_words(config)
    lines = [
        "bind kenyon trace_file trace_file ();",
        f"bind kenyon commit_monitor #(.WORDS({words})) commit_monitor (.clk, "
        ".commit(trace_commit), .step_clocks(trace_step_clocks), "
        ".stall_clocks(trace_stall_clocks));",
        f"bind kenyon spike_monitor #(.WORDS({words})) spike_monitor (.clk, "
        ".tvalid(m_axis_spikes_tvalid), .tready(m_axis_spikes_tready), "
        ".tlast(m_axis_spikes_tlast), .tdata(m_axis_spikes_tdata));",
    ]
    names = ("valid", "saturated", "v", "i_syn", "noise", "spike")
    for p in range(config.n_populations):
        ports = ", ".join(f".{name}(trace_{p}_{name})" for name in names)
        lines.append(
            f"bind kenyon retirement_monitor #(.POPULATION({p}), .L({config.n_lanes}), "
            f".WORDS({words})) retirement_monitor_{p} (.clk, {ports}, "
            f".group(16'(trace_{p}_group)));"
        )
    return "\n".join(lines) + "\n"


def mars_binding(config: MarsConfig) -> str:
    """SystemVerilog that binds the monitor of MARS to a chip with both halves, maps on the chip."""
    names = (
        *("value_valid", "values", "membranes", "write", "write_row", "write_offset"),
        *("write_halves", "write_data", "store_macros", "store_addr", "store_mask", "store_data"),
        *("pass_done", "clock"),
    )
    ports = ", ".join(f".{name}(trace_mars_{name})" for name in names)
    silent = ", ".join(f".mem_{name}('0)" for name in ("write", "addr", "data", "strb"))
    parameters = f"#(.MACROS({config.n_macros}))"
    return f"bind kenyon mars_monitor {parameters} mars_monitor (.clk, {ports}, {silent});\n"


@dataclass(frozen=True)
class StepTimes:
    """When time steps did what they did: the edges that ended those clocks, in ns.

    Attributes
    ----------
    retired : (steps, P, groups) int64
    committed : (steps,) int64
    """

    retired: NDArray[np.int64]
    committed: NDArray[np.int64]

    def __getitem__(self, which: slice) -> "StepTimes":
        return StepTimes(self.retired[which], self.committed[which])

    @staticmethod
    def join(parts: "list[StepTimes]") -> "StepTimes":
        """Of consecutive time steps."""
        return StepTimes(
            np.concatenate([part.retired for part in parts]),
            np.concatenate([part.committed for part in parts]),
        )

    def clock_of(self, step: int, population: int | None, group: int = 0) -> int | None:
        """When the clock began in which this group of neurons retired, or the step ended; in ns.

        None if the simulation did not come so far.
        """
        if step >= len(self.committed):
            return None
        edge = self.committed[step] if population is None else self.retired[step, population, group]
        return int(edge) - CLOCK_NS


@dataclass
class Steps:
    """Complete time steps out of a trace file.

    `v`, `i_syn`, `noise`, `spikes`: (steps, P, n_neurons of the configuration); `saturated`:
    (steps, P); `step_clocks`, `stall_clocks`: (steps,); `beats`: (step, population, neuron, last)
    of the spike stream, complete for all steps but the last; `times`: of what retired.
    """

    v: NDArray[np.uint8]
    i_syn: NDArray[np.int16]
    noise: NDArray[np.int8]
    spikes: NDArray[np.bool_]
    saturated: NDArray[np.bool_]
    step_clocks: NDArray[np.int64]
    stall_clocks: NDArray[np.int64]
    times: StepTimes
    beats: list[tuple[int, int, int, bool]] = field(default_factory=list)


def decode(config: NPUConfig, words: NDArray[np.uint32]) -> Steps:
    """Decode records that end with a commit."""
    records = words.reshape(-1, record_words(config))
    kind = records[:, 0] & 0xFF
    commits = records[kind == COMMIT]
    step_of = np.cumsum(kind == COMMIT)
    retired = kind == RETIREMENT
    n_steps, lanes = len(commits), config.n_lanes
    payload = np.ascontiguousarray(records[retired, 2:].astype("<u4")).view(np.uint8)
    tag = records[retired, 0]
    at = step_of[retired], (tag >> 8) & 0xFF, tag >> 16

    def grouped(dtype: type) -> NDArray[np.generic]:
        return np.zeros((n_steps, config.n_populations, config.n_groups, lanes), dtype)

    v, i_syn, noise, spikes = (grouped(t) for t in (np.uint8, np.int16, np.int8, np.bool_))
    v[at] = payload[:, :lanes]
    i_syn[at] = np.ascontiguousarray(payload[:, lanes : 3 * lanes]).view("<i2")
    noise[at] = payload[:, 3 * lanes : 4 * lanes].view(np.int8)
    bits = np.unpackbits(payload[:, 4 * lanes :], axis=1, bitorder="little")
    spikes[at] = bits[:, :lanes]
    saturated = np.zeros((n_steps, config.n_populations), np.bool_)
    times = np.zeros((n_steps, config.n_populations, config.n_groups), np.int64)
    times[at] = records[retired, 1]
    np.logical_or.at(saturated, at[:2], bits[:, lanes].astype(np.bool_))

    shape = (n_steps, config.n_populations, config.n_neurons)
    beats = [
        (*read_beat(int(low) | int(high) << 32), bool(last & 1))
        for low, high, last in records[kind == SPIKE, 2:5].tolist()
    ]
    return Steps(
        v.reshape(shape),
        i_syn.reshape(shape),
        noise.reshape(shape),
        spikes.reshape(shape),
        saturated,
        commits[:, 2].astype(np.int64),
        commits[:, 3].astype(np.int64),
        StepTimes(times, commits[:, 1].astype(np.int64)),
        beats,
    )
