"""`kenyon bench devices`: what a network costs on a device, and how quickly that is known."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from firmware_tools.console import Terminal
from firmware_tools.costs.constants import Constants, constants
from firmware_tools.costs.layers import Layers, at, layers_of
from firmware_tools.costs.options import options_of
from firmware_tools.costs.pricing import Costs, price
from firmware_tools.costs.system import System, Totals
from firmware_tools.errors import UserError
from firmware_tools.mars.inputs import is_quantised, load_network
from firmware_tools.search import assignment
from model.mars.devices.device import Device, parse
from model.mars.network import QuantizedNetwork
from model.mars.zoo import ZOO

POINTS, BLOCK = 100_000, 4096
"""Design points that are priced to see how long it takes, and how many at once."""
BITS, ADC_BITS, SIDES = (2, 3, 4, 5, 6, 7, 8), (4, 5, 6, 7, 8, 9, 10), (16, 32, 64, 128, 256)
"""Of weights and activations; of converters; of arrays: what a design point draws from."""
COLUMNS = (
    ("arrays", "arrays", 1.0),
    ("converters", "converters", 1.0),
    ("mm2", "area", 1.0),
    ("uJ", "energy", 1e-6),
    ("us", "time", 1e-3),
    ("arrays only: mm2", "array_area", 1.0),
    ("uJ", "array_energy", 1e-6),
    ("us", "array_time", 1e-3),
    ("programming, uJ", "program_energy", 1e-6),
)


def network_of(name: str, **options: Any) -> QuantizedNetwork:
    """Of a file, or of the zoo.

    Raises
    ------
    UserError
        There is none, or options are for the zoo.
    """
    if name in ZOO:
        return ZOO[name].make(**options)
    if not is_quantised(Path(name)):
        raise UserError(f"--network must be a file .npz or one of {', '.join(ZOO)}, not {name}")
    if options:
        given = ", ".join(f"--{key.replace('_', '-')}" for key in options)
        raise UserError(f"{given} must be left out: {name} is a file")
    return load_network(Path(name))


def devices_of(text: str, network: QuantizedNetwork, layers: Layers) -> list[Device]:
    """The device of each layer."""
    if not text.endswith(assignment.SUFFIX):
        return [parse(text)] * len(layers.names)
    devices = assignment.load(Path(text))
    assignment.check(text, devices, network)
    return [devices[name] for name in layers.names]


def bench(name: str, device: str, terminal: Terminal, **options: Any) -> None:
    """Measure, print."""
    network = network_of(name, **options)
    layers = layers_of(network)
    known = constants()
    devices = devices_of(device, network, layers)
    system = System(layers, devices, known)
    choices = np.arange(len(devices))[np.newaxis]
    own = np.arange(len(devices))
    by_layer = Costs(*(getattr(system.table, one.name)[own, own] for one in fields(Costs)))
    totals = {
        "with_converters": system.totals(choices),
        "arrays_only": system.totals(choices, arrays_only=True),
    }
    begin = time.process_time()
    with terminal.busy(f"pricing {POINTS:,} design points"):
        n_points = sum(len(one.area) for one in points(layers, known))
    seconds = time.process_time() - begin
    values = {
        "network": network.name,
        "device": device,
        "layers": [
            {"name": layer, "device": devices[k].name}
            | {key: float(one[k]) for key, one in vars(by_layer).items()}
            for k, layer in enumerate(layers.names)
        ],
        "total": {key: _figures(one) for key, one in totals.items()},
        "points": n_points,
        "points_cpu_seconds": seconds,
        "constants": {key: asdict(one) for key, one in known.by_name.items()},
    }
    terminal.result(values)
    _print(terminal, values, devices, by_layer)


def points(layers: Layers, known: Constants, seed: int = 0) -> "list[Costs]":
    """Networks with a device, an array, a converter and bits drawn anew for each layer."""
    kinds = [device_of(name) for name in ("sram", *known.devices)]
    base = options_of(kinds, known)
    found = []
    n_layers = len(layers.names)
    rng = np.random.default_rng(seed)
    adc = {bits: options_of([replace(kinds[2], adc_bits=bits)], known) for bits in ADC_BITS}
    energy, area = (
        np.array([getattr(one, key)[0] for one in adc.values()])
        for key in ("adc_energy", "adc_area")
    )
    for first in range(0, POINTS, BLOCK):
        shape = min(BLOCK, POINTS - first), n_layers
        side = rng.choice(SIDES, shape).astype(float)
        bits = rng.integers(len(ADC_BITS), size=shape)
        weight_bits, in_bits = (rng.choice(BITS, shape).astype(float) for _ in range(2))
        chosen = replace(
            base.take(rng.integers(len(kinds), size=shape)),
            rows=side,
            columns=side,
            adc_bits=np.array(ADC_BITS)[bits].astype(float),
            adc_energy=energy[bits],
            adc_area=area[bits],
        )
        drawn = replace(
            at(layers, np.newaxis),
            weight_bits=weight_bits,
            in_bits=in_bits,
            planes=np.ceil(in_bits / 4),
        )
        found.append(price(drawn, chosen, known).summed())
    return found


def device_of(name: str) -> Device:
    """A preset, with a converter that has a price."""
    one = parse(name)
    return one if name == "sram" else replace(one, adc_bits=8)


def _figures(totals: Totals) -> dict[str, float]:
    return {
        "area_mm2": float(totals.area[0]),
        "energy_uj": float(totals.energy[0]) / 1e6,
        "time_ms": float(totals.time[0]) / 1e6,
        "tops_per_mm2": float(totals.tops_per_mm2[0]),
        "tops_per_watt": float(totals.tops_per_watt[0]),
    }


def _print(
    terminal: Terminal, values: Mapping[str, Any], devices: Sequence[Device], by_layer: Costs
) -> None:
    table = Table()
    table.add_column("layer")
    table.add_column("device")
    for title, _, _ in COLUMNS:
        table.add_column(title, justify="right")
    for k, layer in enumerate(values["layers"]):
        cells = [f"{getattr(by_layer, key)[k] * unit:,.4g}" for _, key, unit in COLUMNS]
        table.add_row(layer["name"], devices[k].name, *cells)
    terminal.print(table)
    for key, text in (
        ("with_converters", "with converters, cores and links"),
        ("arrays_only", "arrays only"),
    ):
        one = values["total"][key]
        terminal.print(
            f"{text}: {one['area_mm2']:,.4g} mm2, {one['energy_uj']:,.4g} uJ and "
            f"{one['time_ms']:,.4g} ms a frame, {one['tops_per_mm2']:.4g} TOPS/mm2, "
            f"{one['tops_per_watt']:.4g} TOPS/W"
        )
    terminal.print(
        f"{values['points']:,} design points priced in {values['points_cpu_seconds']:.1f} s of CPU"
    )
