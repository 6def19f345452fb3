"""Trace files: CSV for people and spreadsheets, NPZ for everything that a run computes.

CSV: the header `step,v0,v1,...`, then a line per time step; a `*` stands behind the membrane
potential of a neuron that fired. NPZ: the arrays of `model.npu.trace.Trace`, and the network's
`name`, `populations` and `events`, and the `configuration`.
"""

import contextlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.errors import UserError
from firmware_tools.interrupts import uninterrupted
from model.archive import Archive, ArchiveError, TooLargeError
from model.npu.config import NPUConfig
from model.npu.network import Ints, Network
from model.npu.trace import Trace

ARRAYS = tuple(f.name for f in fields(Trace) if f.name != "first_step")
LARGEST = 1 << 32
"""Bytes of the arrays that are read of a file."""
LARGEST_NAMES = 1 << 20
"""Bytes of those that are no tables."""
COMPRESSION_LEVEL = 1
"""A higher one takes several times as long for a few per cent."""
CELLS = [f"{v}{mark}" for mark in ("", "*") for v in range(256)]
"""Texts of a potential without, then with a spike."""


Write = Callable[[Trace], None]
"""Appends time steps to a file."""


def check_name(path: Path) -> None:
    """Refuse names of files that are no trace files."""
    if path.suffix not in (".csv", ".npz"):
        raise UserError(f"{path}: trace file must end in .csv or .npz")


def writing(
    path: Path, network: Network, config: NPUConfig | None
) -> contextlib.AbstractContextManager[Write]:
    """A new trace file; its name's ending says which kind.

    Whatever has been written when the context ends, however it ends, is in the file.
    """
    if path.suffix == ".csv":
        return _writing_csv(path, network)
    return _writing_npz(path, network, config)


@contextlib.contextmanager
def _writing_csv(path: Path, network: Network) -> Iterator[Write]:
    with path.open("w", encoding="ascii", newline="") as file:

        def write(trace: Trace) -> None:
            codes = trace.v + (trace.spikes.astype(np.int64) << 8)
            for step, row in enumerate(codes.tolist(), trace.first_step):
                file.write(",".join([str(step), *(CELLS[code] for code in row)]) + "\n")
            file.flush()

        file.write(",".join(["step", *(f"v{n}" for n in range(network.n_neurons))]) + "\n")
        file.flush()
        yield write


@contextlib.contextmanager
def _writing_npz(path: Path, network: Network, config: NPUConfig | None) -> Iterator[Write]:
    """The format wants the number of steps in front, so chunks go to nameless files first."""
    with contextlib.ExitStack() as stack:
        spool = _Spool(
            _empty_trace(network),
            {name: stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) for name in ARRAYS},
        )
        try:
            yield spool.write
        finally:
            about = {
                "name": np.array(network.name),
                "populations": np.array(network.populations),
                "events": network.events,
                "configuration": np.array(config.name if config else ""),
            }
            with uninterrupted():
                spool.archive(path, about)


class _Spool:
    """Arrays that grow in files of their own until their archive is made."""

    def __init__(self, empty: Trace, files: dict[str, IO[bytes]]) -> None:
        self._empty = empty
        self._files = files
        self._n_lines = dict.fromkeys(files, 0)
        self._first_step: int | None = None

    def write(self, trace: Trace) -> None:
        if self._first_step is None:
            self._first_step = trace.first_step
        for name, file in self._files.items():
            array = getattr(trace, name).astype(getattr(self._empty, name).dtype, copy=False)
            self._n_lines[name] += len(array)
            file.write(array.tobytes())

    def archive(self, path: Path, about: dict[str, NDArray[Any]]) -> None:
        """Make the archive; a file of that name is replaced when the new one is complete."""
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        values = {**about, "first_step": np.array(self._first_step or 0)}
        try:
            with zipfile.ZipFile(
                unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION_LEVEL
            ) as archive:
                for name, value in values.items():
                    with archive.open(f"{name}.npy", "w") as member:
                        np.lib.format.write_array(member, value, allow_pickle=False)
                for name in self._files:
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        self._copy(name, member)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def _copy(self, name: str, member: IO[bytes]) -> None:
        empty = getattr(self._empty, name)
        header = {
            "descr": np.lib.format.dtype_to_descr(empty.dtype),
            "fortran_order": False,
            "shape": (self._n_lines[name], *empty.shape[1:]),
        }
        np.lib.format.write_array_header_1_0(member, header)
        self._files[name].seek(0)
        shutil.copyfileobj(self._files[name], member)


def _empty_trace(network: Network) -> Trace:
    by_neuron, by_population = (0, network.n_neurons), (0, len(network.populations))
    return Trace(
        first_step=0,
        v=np.zeros(by_neuron, np.uint8),
        spikes=np.zeros(by_neuron, np.bool_),
        i_syn=np.zeros(by_neuron, np.int16),
        noise=np.zeros(by_neuron, np.int8),
        rows=np.zeros(by_population, np.int32),
        saturated=np.zeros(by_population, np.bool_),
        clocks=np.zeros(0, np.int64),
    )


@dataclass(frozen=True)
class Recording:
    """What a trace file says; a CSV file does not know the populations.

    Attributes
    ----------
    first_step : int
    v : (steps, n) uint8
    spikes : (steps, n) bool
    populations : tuple of int, optional
    events : (k, 2) int
        (time step, axon).
    name : str
    """

    first_step: int
    v: NDArray[np.uint8]
    spikes: NDArray[np.bool_]
    populations: tuple[int, ...] | None
    events: Ints
    name: str

    @staticmethod
    def of(network: Network, trace: Trace) -> "Recording":
        """What a trace file of this run would say."""
        return Recording(
            first_step=trace.first_step,
            v=trace.v,
            spikes=trace.spikes,
            populations=network.populations,
            events=network.events,
            name=network.name,
        )


def read(path: Path) -> Recording:
    """Read a trace file."""
    check_name(path)
    recording = _read_csv(path) if path.suffix == ".csv" else _read_npz(path)
    if not len(recording.v):
        raise UserError(f"{path}: trace must have at least one time step")
    return recording


def _read_csv(path: Path) -> Recording:
    header, *lines = path.read_text(encoding="ascii", errors="replace").splitlines() or [""]
    n = header.count(",")
    if not n or header != ",".join(["step", *(f"v{k}" for k in range(n))]):
        raise UserError(f"{path}:1: header must be step,v0,v1,...")
    codes = {text: code for code, text in enumerate(CELLS)}
    first_step = 0
    rows: list[list[int]] = []
    for number, line in enumerate(lines, 2):
        step, *cells = line.split(",")
        row = [codes.get(cell, -1) for cell in cells]
        if not step.isdecimal() or len(row) != n or min(row) < 0:
            raise UserError(
                f"{path}:{number}: line must be a time step and {n} potentials 0..255, "
                "each with a * behind it if the neuron fired"
            )
        first_step = first_step if rows else int(step)
        if int(step) != first_step + len(rows):
            raise UserError(f"{path}:{number}: step must be {first_step + len(rows)}, not {step}")
        rows.append(row)
    table = np.array(rows, np.int64).reshape(-1, n)
    return Recording(
        first_step=first_step,
        v=(table & 0xFF).astype(np.uint8),
        spikes=table > 0xFF,
        populations=None,
        events=np.zeros((0, 2), np.int64),
        name=path.stem,
    )


def _read_npz(path: Path) -> Recording:
    try:
        with path.open("rb") as file:
            return _recording(Archive(file))
    except TooLargeError as error:
        raise UserError(f"{path}: {error}") from None
    except (ArchiveError, _NoTraceError):
        raise UserError(f"{path}: must be a trace that `kenyon run` wrote") from None


class _NoTraceError(Exception):
    """The archive holds something else than a trace."""


READ = {"name": "U", "populations": "i", "first_step": "i", "events": "i", "v": "u", "spikes": "b"}
"""The arrays that are read, and the kinds of their types."""
DIMENSIONS = {"name": 0, "populations": 1, "first_step": 0}
"""Of the arrays that are no tables."""


def _recording(archive: Archive) -> Recording:
    """All that there is to know of an array is compared before it is read."""
    if not set(READ) <= set(archive.names):
        raise _NoTraceError
    archive.check_size(READ, LARGEST)
    archive.check_size(DIMENSIONS, LARGEST_NAMES)
    headers = {name: archive.header(name) for name in READ}
    for name, header in headers.items():
        if header.dtype.kind != READ[name] or len(header.shape) != DIMENSIONS.get(name, 2):
            raise _NoTraceError
    n_steps, n_neurons = headers["v"].shape
    same = headers["spikes"].shape == (n_steps, n_neurons) and headers["events"].shape[1] == 2
    if not same or headers["v"].dtype.itemsize != 1:
        raise _NoTraceError
    populations = tuple(archive.read("populations").tolist())
    if min(populations, default=0) < 1 or sum(populations) != n_neurons:
        raise _NoTraceError
    return Recording(
        first_step=int(archive.read("first_step")),
        v=archive.read("v"),
        spikes=archive.read("spikes"),
        populations=populations,
        events=archive.read("events"),
        name=str(archive.read("name")),
    )
