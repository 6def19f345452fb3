"""What a host writes so that the accelerator takes the time steps of a spiking network."""

from model.mars.early_exit import tables
from model.mars.image import Image

PACKET_UNIT = 512
"""Input packets begin at multiples of so many bytes."""
CHUNK, FIRST = 8, 16
"""Where in TIME the steps of a chunk and those before the frame are."""
ENABLE, ENTROPY, BLOCK_LOG2, CLASSES = 0, 1, 4, 8
"""Where in EXIT."""


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
        A frame takes all time steps if the exit unit is used, else those of one chunk.
    """
    names = ("TIME", "INPUT_STRIDE", "EXIT", "EXIT_LOGITS", "EXIT_LIMIT")
    registers = dict.fromkeys(names, 0)
    exits = image.exit_registers
    if exits is None and image.n_chunks == 1:
        return registers, {}
    n = image.chunk_steps
    first = first_chunk * n
    last = image.contents.time_steps if exits else first + n
    registers["TIME"] = last | n << CHUNK | first << FIRST
    if image.contents.input.time_steps:
        registers["INPUT_STRIDE"] = packet_stride(image)
    if exits is None:
        return registers, {}
    descriptor = image.passes[-1].descriptor
    registers |= {
        "EXIT": 1 << ENABLE
        | exits.is_entropy << ENTROPY
        | descriptor.out_block_log2 << BLOCK_LOG2
        | image.output.shape[0] << CLASSES,
        "EXIT_LOGITS": image.contents.output_address,
        "EXIT_LIMIT": min(exits.limit, (1 << 32) - 1),
    }
    return registers, {first: words.tolist() for first, words in tables(exits).items()}


def packet_stride(image: Image) -> int:
    """Bytes from the input packet of a chunk to that of the next one."""
    d = image.input_descriptor
    n_bytes = 2 * 64 + d.n_rows * d.out_row_pitch * 8
    return -(-n_bytes // PACKET_UNIT) * PACKET_UNIT
