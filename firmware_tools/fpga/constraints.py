"""Where the ports of a board's top are, for nextpnr."""

from model.board.config import BoardConfig


def lpf(board: BoardConfig) -> str:
    """The constraint file of a board: its clock, and every port at its pin."""
    lines = [f'FREQUENCY PORT "clk" {board.clock_hz / 1e6:g} MHZ;']
    for port, pin in board.pins.items():
        lines += [
            f'LOCATE COMP "{port}" SITE "{pin.site}";',
            f'IOBUF PORT "{port}" PULLMODE={pin.pull} IO_TYPE=LVCMOS33;',
        ]
    return "\n".join(lines) + "\n"
