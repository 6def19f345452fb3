"""What the user names as `--device`, and networks on it, trial by trial."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape

from firmware_tools.console import Terminal
from firmware_tools.errors import UserError
from firmware_tools.mars.inference import Inference, on_model, on_rtl, stopped
from firmware_tools.mars.inputs import build_rtl
from firmware_tools.search import assignment
from model.mars import reference
from model.mars.devices import faults
from model.mars.devices.device import Device, parse, presets
from model.mars.devices.execution import NetworkArrays
from model.mars.devices.faults import Faults
from model.mars.devices.macros import DeviceMacros
from model.mars.image import Image
from model.mars.layout import Ints
from model.mars.network import QuantizedNetwork

BATCH = 64
"""Images that arrays compute at once."""

Backend = Literal["reference", "model", "rtl"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Named:
    """A device as it was named, and the key of its draws."""

    text: str
    device: Device | Faults | Mapping[str, Device]
    seed: int

    @property
    def is_digital(self) -> bool:
        """Whether only bits are wrong."""
        return isinstance(self.device, Faults)


def load_device(text: str | None, seed: int, trials: int = 1) -> Named | None:
    """The device of a command line, None if there is none."""
    if text is None:
        if trials != 1:
            raise UserError("--trials must be left out: it is for --device")
        return None
    if text.endswith(assignment.SUFFIX):
        return Named(text, assignment.load(Path(text)), seed)
    is_digital = text.partition(":")[0] == faults.NAME
    return Named(text, faults.parse(text) if is_digital else parse(text), seed)


def named(text: str | None, seed: int, trials: int, backend: Backend) -> Named | None:
    """The device of a command line, which the backend has."""
    device = load_device(text, seed, trials)
    if device is not None:
        _check_backend(device, backend)
    return device


def _check_backend(named: Named, backend: Backend) -> None:
    if named.is_digital and backend == "reference":
        raise UserError(
            "--backend must be model or rtl with --device bits: it is bits of their memories"
        )
    if isinstance(named.device, Mapping) and backend != "reference":
        raise UserError(
            f"--backend must be reference with --device {named.text}, not {backend}: macros of "
            "different devices are on different chiplets"
        )
    if not named.is_digital and backend == "rtl":
        raise UserError(
            f"--backend must be reference or model with --device {named.text}, not rtl: the RTL's "
            "macros are digital"
        )


def analogue(named: Named | None) -> tuple[Device, int] | None:
    """The device and its seed, where only arrays can be computed with."""
    if named is None:
        return None
    if isinstance(named.device, Mapping):
        raise UserError(
            f"--device must be one device here, not {named.text}: kenyon infer runs files of them"
        )
    if isinstance(named.device, Faults):
        raise UserError(
            f"--device must be one of {', '.join(presets())} or a file .toml here, not "
            f"{faults.NAME}: kenyon infer --backend model or rtl runs memories with wrong bits"
        )
    return named.device, named.seed


def run_trial(
    named: Named,
    network: QuantizedNetwork,
    image: Image | None,
    inputs: Ints,
    backend: Backend,
    trial: int,
) -> Iterator[Inference]:
    """Images on one chip of a device; the simulator must be built for the RTL."""
    device = named.device
    if isinstance(device, Faults):
        assert image is not None
        kind = network.input_type
        key = {"seed": named.seed, "trial": trial}
        read = [device.features(kind, one, **key, image=k) for k, one in enumerate(inputs)]
        run = on_model if backend == "model" else on_rtl
        cells = device.cells(image, **key)
        results = run(device.image(image, **key), np.stack(read), cells=cells)
    elif isinstance(device, Mapping):
        assignment.check(named.text, device, network)
        own = {name: one for name, one in device.items() if one.name != "sram"}
        results = _on_arrays(NetworkArrays(network, own, seed=named.seed, trial=trial), inputs)
    elif image is None:
        results = _on_arrays(NetworkArrays(network, device, seed=named.seed, trial=trial), inputs)
    else:
        results = on_model(image, inputs, DeviceMacros(device, named.seed, trial))
    return stopped(network, results)


def on_first_chip(
    named: Named,
    network: QuantizedNetwork,
    image: Image | None,
    inputs: Ints,
    backend: Backend,
    terminal: Terminal,
) -> Iterator[Inference]:
    """Images on the first chip, whose simulator is built for the RTL."""
    if backend == "rtl":
        assert image is not None
        faulty = isinstance(named.device, Faults) and named.device.memory in faults.CELLS
        build_rtl(image.config, terminal, faulty=faulty)
    return run_trial(named, network, image, inputs, backend, 0)


def _on_arrays(arrays: NetworkArrays, inputs: Ints) -> Iterator[Inference]:
    network = arrays.network
    for first in range(0, len(inputs), BATCH):
        part = inputs[first : first + BATCH]
        maps = arrays.run(part, first)
        for k in range(len(part)):
            outputs = {name: values[k] for name, values in maps.items()}
            yield Inference(outputs, outputs[network.output])


@dataclass(frozen=True)
class Spread:
    """How far the chips of a device are from the exact network.

    Parameters
    ----------
    agreement : (trials,) float64 or None
        Share of the images with the exact network's class; None if results are no vector.
    difference : (trials,) float64
        Root of the mean square by which results differ, divided by that of the exact results.
    """

    agreement: Floats | None
    difference: Floats

    def as_json(self) -> dict[str, object]:
        """Everything, with mean and standard deviation of the trials."""
        result: dict[str, object] = {}
        for name, values in (("agreement", self.agreement), ("difference", self.difference)):
            if values is not None:
                result[name] = {
                    "trials": values.tolist(),
                    "mean": float(values.mean()),
                    "sd": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
                }
        return result


def spread(exact: Ints, trials: list[Ints]) -> Spread:
    """Of the results (N, C, H, W) of each trial against the exact ones."""
    scale = float(np.sqrt(np.mean(np.square(exact, dtype=np.float64)))) or 1.0
    apart = [np.sqrt(np.mean(np.square(one - exact, dtype=np.float64))) for one in trials]
    channels, rows, columns = exact.shape[1:]
    agreement = None
    if channels > 1 and rows == columns == 1:
        classes = exact.reshape(len(exact), -1).argmax(axis=1)
        own = [one.reshape(len(one), -1).argmax(axis=1) for one in trials]
        agreement = np.array([np.mean(one == classes) for one in own])
    return Spread(agreement, np.array(apart) / scale)


def exact_outputs(network: QuantizedNetwork, inputs: Ints) -> Ints:
    """Results of the exact network behind the step that it takes last, (N, C, H, W)."""
    outputs: list[Ints] = []
    for first in range(0, len(inputs), BATCH):
        part = inputs[first : first + BATCH]
        maps = reference.run(network, part)[network.output]
        one_by_one = (Inference({}, values) for values in maps)
        outputs += [one.output for one in stopped(network, one_by_one)]
    return np.stack(outputs)


def chips(
    named: Named,
    network: QuantizedNetwork,
    image: Image | None,
    inputs: Ints,
    backend: Backend,
    trials: int,
    first: Sequence[Ints],
    terminal: Terminal,
) -> dict[str, object]:
    """How far all chips are from the exact network; results of the first one are there."""
    results = [np.stack(first)]
    with terminal.progress("chips", trials) as advance:
        advance(1)
        for trial in range(1, trials):
            own = run_trial(named, network, image, inputs, backend, trial)
            results.append(np.stack([replace(one, outputs={}).output for one in own]))
            advance(1 + trial)
    found = spread(exact_outputs(network, inputs), results)
    return {"name": named.text, "seed": named.seed, "chips": trials, **found.as_json()}


def show(values: Mapping[str, Any], terminal: Terminal) -> None:
    """Print what `chips` found."""
    n = values["chips"]
    terminal.print(
        f"device {escape(values['name'])}, " + ("1 chip:" if n == 1 else f"{n:,} chips, mean (sd):")
    )
    texts = (("agreement", "images with the exact class"), ("difference", "difference, relative"))
    for key, text in texts:
        if key in values:
            one = values[key]
            sd = f" ({one['sd']:.2%})" if n > 1 else ""
            terminal.print(f"  {text}: {one['mean']:.2%}{sd}")
