"""What the user names on the command line: networks, configurations, files to write."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from firmware_tools.console import CHIP_NAMES, CONFIG_NAMES, Terminal
from firmware_tools.errors import UserError
from model.board.config import BOARDS, BoardConfig, check_chip
from model.config import CHIPS, ChipConfig
from model.npu.config import CONFIGS, NPUConfig

if TYPE_CHECKING:
    from model.npu.network import Network


def load_network(
    file: Path | None,
    iqif: tuple[Path, Path, Path] | None,
    columns: Literal["slopes", "shifts"] | None,
    terminal: Terminal,
) -> "Network":
    """The network of a network file, or of the IQIF simulator's text files."""
    from firmware_tools.npu import iqif_text
    from model.npu import network_file

    if (file is None) == (iqif is None):
        raise UserError("give either NETWORK.json or --iqif NEURONS CONNECTIONS SESSION")
    if iqif is None and columns is not None:
        raise UserError("--iqif-columns must be left out without --iqif")
    if file is not None and file.suffix == ".npz":
        raise UserError(f"{file}: quantised network is for MARS: kenyon infer runs it")
    if file is not None:
        return network_file.load(file)
    assert iqif is not None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network = iqif_text.load(*iqif, columns)
    for warning in caught:
        terminal.warn(str(warning.message))
    return network


def named_config(name: str) -> NPUConfig:
    """The configuration of this name."""
    if name not in CONFIGS:
        raise UserError(f"configuration must be one of {CONFIG_NAMES}, not {name}")
    return CONFIGS[name]


def named_chip(name: str) -> ChipConfig:
    """The chip of this name."""
    if name not in CHIPS:
        raise UserError(f"configuration must be one of {CHIP_NAMES}, not {name}")
    return CHIPS[name]


def named_board(name: str | None, chip: ChipConfig) -> BoardConfig | None:
    """The board of this name, if it can carry the chip."""
    if name is None:
        return None
    if name not in BOARDS:
        raise UserError(f"board must be one of {', '.join(BOARDS)}, not {name}")
    try:
        check_chip(chip, name)
    except ValueError as error:
        raise UserError(str(error)) from None
    return BOARDS[name]


def fitting_config(name: str | None, network: "Network") -> NPUConfig:
    """The named configuration, or the smallest one, that has room for the network."""
    from model.npu.image import check_fit, smallest_config

    if name is None:
        return smallest_config(network)
    config = named_config(name)
    check_fit(network, config)
    return config


def check_folder(path: Path) -> None:
    """Refuse a file whose folder is not there, before anything long begins."""
    if not path.parent.is_dir():
        raise UserError(f"{path}: folder must exist: {path.parent}")
    if path.is_dir():
        raise UserError(f"{path}: must be a file, not a folder")
