"""What the user names on the command line for MARS: networks, images, configurations."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from firmware_tools.console import Terminal
from firmware_tools.errors import UserError
from model.mars.config import CONFIGS, MarsConfig
from model.mars.zoo import ZOO
from model.npu.config import CONFIGS as NPU_CONFIGS

if TYPE_CHECKING:
    from firmware_tools.imported import ModelImport
    from model.mars.image import Image
    from model.mars.layout import Ints
    from model.mars.network import QuantizedNetwork
    from tb.simulator import Waves

DEFAULT = "mars"
DEFAULT_NETWORK = "vgg16"
"""Whose figures `kenyon bench` shows."""
DEFAULT_MHZ = 100.0
"""Clock for frames per second."""
NAMES = ", ".join(CONFIGS)
SUFFIX = ".npz"
MODEL_SUFFIXES = (".tflite", ".onnx")
"""Files of other tools, which are imported as they are read."""

Quantised = Annotated[
    Path,
    typer.Argument(metavar="NET", help="Quantised network: NET.npz, MODEL.tflite or MODEL.onnx."),
]
AnyNetwork = Annotated[
    Path | None,
    typer.Argument(
        metavar="NETWORK",
        help="NETWORK.json, for the NPU, or, quantised, NET.npz, MODEL.tflite or MODEL.onnx.",
    ),
]
AnyConfig = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        metavar="CONFIG",
        help=f"For NETWORK.json: {', '.join(NPU_CONFIGS)}. For a quantised one: {NAMES}.",
    ),
]
ConfigName = Annotated[
    str, typer.Option("--config", "-c", metavar="CONFIG", help=f"Whose clocks count: {NAMES}.")
]
Benched = Annotated[
    str | None,
    typer.Option(
        "--network",
        metavar="NETWORK",
        help="Quantised network, NET.npz, MODEL.tflite or MODEL.onnx, or of the zoo: "
        f"{', '.join(ZOO)}. Default: {DEFAULT_NETWORK}.",
    ),
]
ZooSparsity = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Of the zoo: share of empty group-sets. Default: 0.5; of devices 0."
    ),
]
ZooWeightBits = Annotated[
    int | None, typer.Option(min=2, max=8, help="Of the zoo: bits of weights. Default: 4.")
]
ZooActBits = Annotated[
    int | None, typer.Option(min=1, max=8, help="Of the zoo: bits of activations. Default: 4.")
]
Chunk = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=4,
        metavar="STEPS",
        help="Time steps of a spiking network that the chip takes before it turns to the next "
        "layer. Default: all; 4 if an exit can save some; 1 if layers share membranes.",
    ),
]
DeviceName = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME[:KEY=VALUE,...]",
        help="What the macros are made of: sram, sram-analog, pcm, fefet, rram, DEVICE.toml; "
        "DEVICES.json of kenyon search; or bits, memories with wrong bits (docs/devices.md).",
    ),
]
Trials = Annotated[
    int, typer.Option(min=1, max=10_000, help="Chips of a device, each with its own draws.")
]
ClockMHz = Annotated[float, typer.Option(min=0.001, help="Clock for frames per second, in MHz.")]


def is_quantised(path: Path | None) -> bool:
    """Whether a network file is one of MARS, which its name tells."""
    return path is not None and path.suffix in {SUFFIX, *MODEL_SUFFIXES}


def refuse_others(subject: str, options: Mapping[str, object]) -> None:
    """Refuse options that are for something else; None is one that was not given."""
    for name, value in options.items():
        if value is not None:
            raise UserError(f"{name} must be left out: it is not for {subject}")


def mars_config(name: str | None, weight_bus: int | None = None) -> MarsConfig:
    """The configuration of this name, or the default one; its weight bus may be replaced."""
    name = DEFAULT if name is None else name
    if name not in CONFIGS:
        raise UserError(f"configuration must be one of {NAMES} for MARS, not {name}")
    config = CONFIGS[name]
    if weight_bus is None:
        return config
    try:
        return replace(config, weight_bus=weight_bus)
    except ValueError as error:
        raise UserError(str(error)) from None


def load_model(path: Path, config: MarsConfig | None = None) -> "ModelImport":
    """The network of a file, and how the input and output of a model become its own.

    Models of other tools are imported with the multipliers of a configuration.
    """
    if not is_quantised(path):
        endings = ", ".join((SUFFIX, *MODEL_SUFFIXES))
        raise UserError(f"{path}: quantised network must end in one of {endings}")
    if path.suffix != SUFFIX:
        from firmware_tools import imported

        return imported.load(path, wide=config is not None and config.wide_multiplier)
    from firmware_tools.imported import ModelImport
    from model.mars import network_file
    from model.mars.network import check_features

    network = network_file.load(path)
    return ModelImport(
        network, lambda inputs: check_features(network.input_type, inputs), lambda results: results
    )


def load_network(path: Path, config: MarsConfig | None = None) -> "QuantizedNetwork":
    """The network of a file, with the multipliers of a configuration."""
    return load_model(path, config).network


def load_images(path: Path, model: "ModelImport") -> "Ints":
    """The images of a file, as the network takes them, (N, C, H, W)."""
    from model.mars import network_file
    from model.mars.network import NetworkError, check_features

    if path.suffix != ".npy":
        raise UserError(f"{path}: input must end in .npy")
    values = network_file.load_array(path)
    try:
        return check_features(model.network.input_type, model.to_network(values))
    except NetworkError as error:
        raise NetworkError(f"{path}: {error}") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def compiled(
    network: "QuantizedNetwork", config: MarsConfig, terminal: Terminal, chunk: int | None = None
) -> "Image":
    """The image of a network; `FitError` if it does not fit."""
    from model.mars.mapper import compile_network

    with terminal.busy(f"compiling {network.name}"):
        return compile_network(network, config, chunk)


def build_rtl(
    config: MarsConfig, terminal: Terminal, waves: "Waves" = "", *, faulty: bool = False
) -> None:
    """Build the simulator of a configuration unless it is there, or with wrong cells."""
    from tb.mars import cosim

    if not cosim.is_built(config, waves, faulty=faulty):
        with terminal.busy(f"building the simulator of {config.name}, once, some minutes"):
            cosim.build(config, waves, faulty=faulty)
