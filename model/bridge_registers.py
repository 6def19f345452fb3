"""What a host writes so that the bridge takes the results of a network."""

import math

from model.bridge import ENTRY_FIELDS, Bridge, BridgeError, Entry, Kind
from model.config import ChipConfig
from model.mars.config import KERNELS
from model.mars.image import Features, Image, n_planes
from model.mars.network import RAW_BITS
from model.registers import register_map

KINDS = {1: Kind.NIBBLE, 2: Kind.BYTE, 8: Kind.SUM}
"""By feature words of 16 numbers."""


def kind_of(image: Image) -> Kind:
    """What the numbers of a network's result are.

    Raises
    ------
    BridgeError
        There are none behind a frame that mean something by themselves.
    """
    if image.exit_registers is not None:
        return Kind.LOGIT
    if image.output.time_steps and not image.output.is_logits:
        raise BridgeError(
            f"{image.contents.name}: the result must be numbers or logits, not spikes in time"
        )
    if image.contents.stored:
        raise BridgeError(
            f"{image.contents.name}: the result must fit the feature memory, out of which it goes"
        )
    if image.n_chunks > 1:
        raise BridgeError(
            f"{image.contents.name}: a frame must have all time steps, not "
            f"{image.contents.chunk} of {image.contents.time_steps}"
        )
    return KINDS[n_planes(image.output.bits)]


def n_outputs(image: Image) -> int:
    """Numbers of a network's result."""
    return math.prod(image.output.shape)


def bridge_registers(bridge: Bridge, image: Image, chip: ChipConfig) -> dict[str, int]:
    """Registers by name, without that which switches the bridge on."""
    word = register_map(chip).word
    result, burst = "bridge.RESULT", "bridge.BURST"
    return {
        result: word(
            result,
            entries=len(bridge.entries),
            kind=kind_of(image),
            is_signed=int(image.output.signed),
        ),
        burst: word(burst, steps=bridge.steps, population=bridge.population),
    }


def entry_words(bridge: Bridge, image: Image) -> list[int]:
    """The words of all entries, one entry behind the other."""
    return [word for entry in bridge.entries for word in _words(entry, image)]


def _words(entry: Entry, image: Image) -> list[int]:
    word, lane = _place(entry.output, image)
    values = {
        "mult": entry.mult,
        "shift": entry.shift,
        "lane": lane,
        "axon": entry.is_axon,
        "index": entry.index,
        "population": entry.population,
        "word": word,
    }
    return [
        sum((values[name] & ((1 << width) - 1)) << low for name, (low, width) in fields.items())
        for fields in ENTRY_FIELDS
    ]


def _place(output: int, image: Image) -> tuple[int, int]:
    """Where a number of the result is: its first word and its lane, or its class."""
    if kind_of(image) is Kind.LOGIT:
        return output, 0
    kind: Features = image.output
    _, rows, cols = kind.shape
    channel, pixel = divmod(output, rows * cols)
    block, lane = divmod(int(kind.places[channel]), KERNELS)
    word = pixel * kind.col_pitch + block * kind.planes
    if kind.is_logits:
        # Sums over the steps: the last step has them all.
        word += (kind.time_steps - 1) * n_planes(RAW_BITS)
    return image.contents.output_address + word, lane
