"""Files that say which device each layer has: `kenyon infer --device FILE.json` runs them."""

import json
from collections.abc import Mapping
from pathlib import Path

from firmware_tools.search.errors import SearchError
from model.mars.devices.device import Device, DeviceError, parse
from model.mars.network import Conv, Dense, QuantizedNetwork

FORMAT = "kenyon-devices-1"
SUFFIX = ".json"


def dump(network: str, devices: Mapping[str, str], path: Path) -> None:
    """Write a file: a device for each layer with weights."""
    content = {"format": FORMAT, "network": network, "devices": dict(devices)}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> dict[str, Device]:
    """Devices by layer.

    Raises
    ------
    SearchError
        The file is not as `dump` writes it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SearchError(f"{path}: devices must be JSON: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise SearchError(f"{path}: format must be {FORMAT}, as kenyon search writes it")
    devices = content.get("devices")
    if not isinstance(devices, dict) or not all(isinstance(one, str) for one in devices.values()):
        raise SearchError(f"{path}: devices must be a device's name for each layer")
    try:
        return {layer: parse(text) for layer, text in devices.items()}
    except DeviceError as error:
        raise SearchError(f"{path}: {error}") from None


def check(path: str, devices: Mapping[str, Device], network: QuantizedNetwork) -> None:
    """Refuse devices that are not those of the network's layers."""
    layers = [one.name for one in network.layers if isinstance(one, Conv | Dense)]
    for name in devices:
        if name not in layers:
            raise SearchError(
                f"{path}: layer must be one of {', '.join(layers)} of {network.name}, not {name}"
            )
    for name in layers:
        if name not in devices:
            raise SearchError(f"{path}: layer {name} of {network.name} must have a device")
