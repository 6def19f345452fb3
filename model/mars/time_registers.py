"""What a host writes so that the accelerator takes the time steps of a spiking network."""

from model.mars.config import LINE_BITS, WORD_BYTES
from model.mars.early_exit import tables
from model.mars.image import Image
from model.mars.layout import DESCRIPTOR_LINES
from model.mars.registers import register_map

PACKET_UNIT = 512
"""Input packets begin at multiples of so many bytes."""
LIMIT_MAX = (1 << 32) - 1
"""No sum of 256 classes comes near it."""


def time_registers(
    image: Image, first_chunk: int = 0
) -> tuple[dict[str, int], dict[int, list[int]]]:
    """Registers by name, and words of the exit unit's tables by the first one's number.

    Parameters
    ----------
    image : Image
    first_chunk : int
        The frame goes on behind so many chunks that were frames of their own.

    Returns
    -------
    {str: int}, {int: list of int}
        A frame takes all its time steps if the exit unit is used, else those of one chunk.
    """
    names = ("TIME", "INPUT_STRIDE", "EXIT", "EXIT_LOGITS", "EXIT_LIMIT")
    registers = dict.fromkeys(names, 0)
    exits = image.exit_registers
    if exits is None and image.n_chunks == 1:
        return registers, {}
    addresses = register_map(image.config)
    n = image.chunk_steps
    first = first_chunk * n
    last = image.time_steps if exits else first + n
    registers["TIME"] = addresses.word("mars.TIME", steps=last, chunk=n, first=first)
    if image.contents.input.time_steps:
        registers["INPUT_STRIDE"] = packet_stride(image)
    if exits is None:
        return registers, {}
    registers["EXIT"] = addresses.word(
        "mars.EXIT",
        enable=1,
        entropy=int(exits.is_entropy),
        block_log2=image.passes[-1].descriptor.out_block_log2,
        classes=image.output.shape[0],
    )
    registers["EXIT_LOGITS"] = image.contents.output_address
    registers["EXIT_LIMIT"] = min(exits.limit, LIMIT_MAX)
    return registers, {word: words.tolist() for word, words in tables(exits).items()}


def packet_stride(image: Image) -> int:
    """Bytes from the input packet of a chunk to that of the next one."""
    d = image.input_descriptor
    n_bytes = DESCRIPTOR_LINES * LINE_BITS // 8 + d.n_rows * d.out_row_pitch * WORD_BYTES
    return -(-n_bytes // PACKET_UNIT) * PACKET_UNIT
