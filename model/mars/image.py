"""The program image: a network for an accelerator, as bytes for a file and for its memory.

```
0   4s  magic "KMRS"
4   u32 version of the format
8   u32 fingerprint of the configuration
12  u32 length of the whole image in bytes
16  u32 CRC-32 of the whole image, these four bytes taken as 0
20  u32 length of the contents
24  ... contents: JSON, UTF-8, what is where and how the network calls it
    ... two lines of 64 byte: the descriptor of the input
    ... the program, to the end of the image
```
All numbers are little-endian. The program is copied to memory as it is; an input packet is the
descriptor of the input followed by the input's feature words.
"""

import itertools
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pydantic
from numpy.typing import NDArray

from model.mars.config import (
    CONFIGS,
    KERNELS,
    LINE_BITS,
    NIBBLE,
    WORD_BYTES,
    WORDS_PER_LINE,
    MarsConfig,
)
from model.mars.early_exit import MAX_CLASSES, ExitRegisters, exit_registers, never
from model.mars.layout import (
    DESCRIPTOR_LINES,
    Descriptor,
    Ints,
    Lines,
    pack_descriptor,
    unpack_descriptor,
)
from model.mars.machine import from_planes, maps_words, nibble_plane
from model.mars.memory import Region, frame_regions
from model.mars.network import RAW_BITS, FeatureType
from model.mars.neuron import Exit
from model.mars.packing import Packing
from model.mars.program import (
    Pass,
    ProgramError,
    decode,
    encode_input,
    from_bytes,
    segments_of,
)

MAGIC = b"KMRS"
VERSION = 4
HEADER = struct.Struct("<4s5I")
BLANK_CRC = slice(16, 20)
DESCRIPTOR_BYTES = DESCRIPTOR_LINES * LINE_BITS // 8


class ImageError(ValueError):
    """The bytes are no image that this software and this accelerator can use."""


def n_planes(bits: int) -> int:
    """Words of 64 bit per pixel and 16 channels of values of so many bits."""
    return {1: 1, 2: 2}.get(-(-bits // NIBBLE), 8)


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)


def join_steps(spikes: Ints) -> Ints:
    """Spikes (steps, ...) as values: bit t is step t."""
    places = np.arange(len(spikes)).reshape(-1, *[1] * (spikes.ndim - 1))
    return np.asarray((spikes << places).sum(axis=0))


def split_steps(values: Ints, n_steps: int) -> Ints:
    """The inverse of `join_steps`."""
    places = np.arange(n_steps).reshape(-1, *[1] * values.ndim)
    return np.asarray(values >> places & 1)


@dataclass(frozen=True)
class Features(FeatureType):
    """A feature map as the accelerator stores it.

    Spikes in time are values of as many bits as there are steps: a nibble of a channel is four of
    its time steps, the first one lowest. Logits in time have 32 bits for each step.

    Parameters
    ----------
    groups : int
        Channel c of n stands at place ``c % (n/groups) * groups + c // (n/groups)``: those that
        share a membrane beside each other.
    """

    groups: int = 1

    @property
    def is_logits(self) -> bool:
        """32 bits in every step."""
        return self.bits == RAW_BITS and self.time_steps > 0

    @property
    def places(self) -> Ints:
        """Where each channel stands."""
        channel, n = np.arange(self.shape[0]), self.shape[0] // self.groups
        return np.asarray(channel % n * self.groups + channel // n)

    @property
    def planes(self) -> int:
        """Words per pixel and 16 channels; those of logits are filled up to a power of two."""
        steps = self.time_steps if self.is_logits else 1
        return n_planes(self.bits) << (steps - 1).bit_length()

    @property
    def blocks(self) -> int:
        """Blocks of 16 channels."""
        return -(-self.shape[0] // KERNELS)

    @property
    def row_pitch(self) -> int:
        """Words of a row."""
        return self.shape[2] * self.col_pitch

    @property
    def col_pitch(self) -> int:
        """Words of a pixel."""
        return self.blocks * self.planes

    def to_words(self, values: Ints) -> NDArray[np.uint64]:
        """A map (channels, rows, columns) as words, pixel by pixel; spikes as their values."""
        _, rows, cols = self.shape
        padded = np.zeros((self.blocks * KERNELS, rows, cols), np.int64)
        padded[self.places] = values
        lanes = padded.reshape(self.blocks, KERNELS, rows, cols).transpose(2, 3, 0, 1)
        planes = [nibble_plane(lanes, p) for p in range(self.planes)]
        return np.stack(planes, axis=-1).reshape(-1)

    def from_words(self, words: NDArray[np.uint64]) -> Ints:
        """The inverse of `to_words`; in time (time_steps, channels, rows, columns)."""
        _, rows, cols = self.shape
        planes = words.reshape(rows, cols, self.blocks, self.planes)
        if self.is_logits:
            by_step = planes.reshape(rows, cols, self.blocks, -1, n_planes(self.bits))
            steps = [self._map(by_step[..., t, :]) for t in range(self.time_steps)]
            return np.stack(steps)
        values = self._map(planes)
        return split_steps(values, self.time_steps) if self.time_steps else values

    def _map(self, planes: NDArray[np.uint64]) -> Ints:
        """Words (rows, columns, blocks, planes) as (channels, rows, columns)."""
        values = from_planes(planes, signed=self.signed)
        return values.reshape(*self.shape[1:], -1).transpose(2, 0, 1)[self.places]


class PassContents(_Strict):
    """A pass, as the network calls it.

    Attributes
    ----------
    layers : tuple of str
        What it computes, the convolution first, and their results in `outputs`.
    source : str
        The map that it reads.
    copies : bool
        The convolution is none of the layers: it copies the source into pools.
    partial : bool
        The pass is a step on the way to the layer's result, which another one computes.
    kernel : (int, int)
        Rows and columns of the convolution's kernels.
    team_rows : tuple of int
        Of each team, which row of the convolution's result is the first that it computes.
    total_sets, kept_sets : int
        Group-sets of the convolution, and those that have a weight other than 0.
    pixels : int
        Pixels of the convolution.
    move : "load", "store", "constants" or ""
        The pass computes nothing but brings rows of a map from memory or to it, or constant ones
        out of the program.
    overwritten : int
        Of the result, the first rows that the next pass writes: constants.
    """

    layers: tuple[str, ...]
    outputs: tuple[Features, ...]
    source: str
    copies: bool
    partial: bool
    kernel: tuple[int, int]
    team_rows: tuple[int, ...]
    total_sets: int
    kept_sets: int
    pixels: int
    move: Literal["", "load", "store", "constants"] = ""
    overwritten: int = 0


class Contents(_Strict):
    """What an image holds.

    `packing` says how the input is stored, if not pixel by pixel. A spiking network has
    `time_steps`; its program is run for `chunk` of them at a time, 0 is all. `membrane_words` are
    the words of feature memory in which membranes are from one chunk to the next, by name; `exit`
    says when it stops taking steps.
    `output_address` is that of the result's first word in the feature memory of macro 0, or, if it
    is `stored`, in memory behind `SCRATCH_BASE`.
    """

    name: str
    input: Features
    packing: Packing | None
    output_address: int
    passes: tuple[PassContents, ...]
    time_steps: int = 0
    chunk: int = 0
    membrane_words: dict[str, int] = {}
    exit: Exit | None = None
    stored: bool = False


@dataclass(frozen=True)
class Segment:
    """Passes that follow each other without waiting for memory, and what is read for them."""

    passes: tuple[Pass, ...]
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class Image:
    """A compiled network.

    Parameters
    ----------
    config : MarsConfig
    contents : Contents
    input_descriptor : Descriptor
    lines : (n, 8) uint64
        The program.
    steps : int
        Time steps that a frame takes, whatever its logits are; 0 leaves it to the exit, or takes
        all. It is no part of a file: TIME.steps, which a policy chooses for each frame.
    """

    config: MarsConfig
    contents: Contents
    input_descriptor: Descriptor
    lines: Lines
    steps: int = 0

    @cached_property
    def passes(self) -> tuple[Pass, ...]:
        """The program, decoded."""
        return decode(self.lines, wide_multiplier=self.config.wide_multiplier)

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The program, segment by segment, the input first."""
        parts = segments_of((Pass(self.input_descriptor, ()), *self.passes))
        at = self._n_lines(parts[0][1:])
        result = [Segment(parts[0], frame_regions(self.n_input_lines, at))]
        for before, passes in itertools.pairwise(parts):
            d, regions = before[-1].descriptor, []
            for line, n_lines in zip(d.load_line, d.load_lines, strict=True):
                if n_lines:
                    regions += [Region(at, DESCRIPTOR_LINES), Region(line, n_lines)]
                    at += DESCRIPTOR_LINES
            result.append(Segment(passes, (*regions, Region(at, d.next_lines))))
            at += d.next_lines
        return tuple(result)

    @cached_property
    def starts_segment(self) -> tuple[bool, ...]:
        """Of every pass, the input first: whether clocks are counted from it on."""
        return tuple(k == 0 for one in self.segments for k in range(len(one.passes)))

    def _n_lines(self, passes: Sequence[Pass]) -> int:
        wide = self.config.wide_multiplier
        return sum(one.n_lines(wide_multiplier=wide) for one in passes)

    @property
    def n_input_lines(self) -> int:
        """Lines of the input packet that the first segment reads."""
        d = self.input_descriptor
        return DESCRIPTOR_LINES + -(-d.n_rows * d.out_row_pitch // WORDS_PER_LINE)

    @property
    def n_program_lines(self) -> int:
        """Lines of the program that the first segment reads."""
        return self.segments[0].regions[1].n_lines

    @property
    def scratch_bytes(self) -> int:
        """Bytes of memory behind `SCRATCH_BASE`."""
        return maps_words(self.passes) * WORD_BYTES

    @property
    def bytes_written(self) -> int:
        """Bytes of maps that a frame writes to memory."""
        return sum(one.n_kept_words for one in self.passes) * WORD_BYTES

    @property
    def bytes_read(self) -> int:
        """Bytes of maps that later segments read from memory, the input included."""
        loads = (
            one.descriptor for one in self.passes if one.descriptor.is_input and one.words is None
        )
        return sum(d.n_rows * d.out_row_pitch for d in loads) * WORD_BYTES

    @property
    def output(self) -> Features:
        """Type of the network's result."""
        return self.contents.passes[-1].outputs[-1]

    @property
    def output_words(self) -> int:
        """Words of the network's result."""
        return self.output.shape[1] * self.output.row_pitch

    def taking(self, steps: int) -> "Image":
        """The same for a frame of so many time steps.

        Raises
        ------
        ImageError
            The network has not so many steps, or no logits that the exit unit could add.
        """
        most, (n_classes, *size) = self.contents.time_steps, self.output.shape
        if not 1 <= steps <= most:
            raise ImageError(f"steps must be 1..{most}, not {steps}")
        if not self.output.is_logits or size != [1, 1] or n_classes > MAX_CLASSES:
            raise ImageError(
                f"{self.contents.name}: its results must be logits of one pixel and at most "
                f"{MAX_CLASSES} classes to be of a chosen number of time steps"
            )
        return replace(self, steps=steps)

    @property
    def time_steps(self) -> int:
        """Time steps of a frame, if no exit stops it; 0 of a network without time."""
        return self.steps or self.contents.time_steps

    @property
    def chunk_steps(self) -> int:
        """Time steps of a run of the program; 0 of a network without time."""
        return self.contents.chunk or self.contents.time_steps

    @property
    def n_chunks(self) -> int:
        """How often the program is run for all time steps of a frame."""
        return -(-self.time_steps // self.chunk_steps) if self.chunk_steps else 1

    @property
    def exit_registers(self) -> ExitRegisters | None:
        """What the exit unit decides by; None if it has nothing to do.

        It also adds up the logits of a network that runs in chunks.
        """
        c, (n_classes, *size) = self.contents, self.output.shape
        if self.steps:
            return never(self.steps)
        if c.exit is not None:
            return exit_registers(c.exit, c.time_steps, n_classes)
        if self.n_chunks == 1 or not self.passes[-1].descriptor.raw:
            return None
        return never(c.time_steps) if size == [1, 1] and n_classes <= MAX_CLASSES else None

    def packet(self, features: Ints, chunk: int = 0) -> Lines:
        """The input packet of an input (channels, rows, columns), or of spikes in time.

        Parameters
        ----------
        features : (C, H, W) or (time_steps, C, H, W) int
        chunk : int
            For which time the program is run, from 0 on.
        """
        kind, packing = self.contents.input, self.contents.packing
        if kind.time_steps:
            n_steps = self.contents.chunk or kind.time_steps
            features = join_steps(features[chunk * n_steps : (chunk + 1) * n_steps])
            kind = Features(kind.shape, n_steps, kind.signed)
        if packing is not None:
            kind = Features(packing.packed_shape(kind.shape), kind.bits, kind.signed)
            features = packing.pack(features)
        return encode_input(self.input_descriptor, kind.to_words(features))


def write_image(image: Image) -> bytes:
    """The bytes of an image."""
    text = image.contents.model_dump_json().encode()
    body = text + pack_descriptor(image.input_descriptor).astype("<u8").tobytes()
    body += image.lines.astype("<u8").tobytes()

    def header(crc: int) -> bytes:
        length = HEADER.size + len(body)
        return HEADER.pack(MAGIC, VERSION, image.config.fingerprint, length, crc, len(text))

    return header(zlib.crc32(header(0) + body)) + body


def read_image(data: bytes) -> Image:
    """Check the bytes of an image completely and split them.

    Raises
    ------
    ImageError
        Cut, longer than it says, flipped anywhere, or for a configuration that has no name here.
    """
    if len(data) < HEADER.size:
        raise ImageError(f"image must be at least {HEADER.size} bytes, not {len(data)}: cut short")
    magic, version, fingerprint, length, crc, n_text = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ImageError(f"image must begin with {MAGIC.decode()}, not {magic!r}: no MARS image")
    if length != len(data):
        raise ImageError(f"image must be {length} bytes, as its header says, not {len(data)}")
    blank = bytearray(data)
    blank[BLANK_CRC] = bytes(4)
    if zlib.crc32(blank) != crc:
        raise ImageError("image must match its CRC-32: it was damaged; compile the network again")
    if version != VERSION:
        raise ImageError(f"image version must be {VERSION}, not {version}; compile it again")
    config = next((c for c in CONFIGS.values() if c.fingerprint == fingerprint), None)
    if config is None:
        known = ", ".join(f"{c.name} {c.fingerprint:08x}" for c in CONFIGS.values())
        raise ImageError(f"image configuration must be one of {known}, not {fingerprint:08x}")
    text, rest = data[HEADER.size :][:n_text], data[HEADER.size + n_text :]
    try:
        contents = Contents.model_validate_json(text)
        descriptor = unpack_descriptor(from_bytes(rest[:DESCRIPTOR_BYTES]))
        lines = from_bytes(rest[DESCRIPTOR_BYTES:])
        decode(lines, wide_multiplier=config.wide_multiplier)
    except (ProgramError, pydantic.ValidationError) as error:
        raise ImageError(f"image must hold a program: {error}") from None
    return Image(config, contents, descriptor, lines)
