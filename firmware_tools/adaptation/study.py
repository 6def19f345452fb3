"""The table of 2305.18416 on small images: what arrays lose, and what each repair wins back."""

import json
import statistics as numbers
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from firmware_tools.adaptation.fine_tuning import fine_tune
from firmware_tools.adaptation.moments import gain, second_components, statistics
from firmware_tools.console import Terminal
from firmware_tools.federation.partition import DataName, load
from firmware_tools.quantize import digits
from firmware_tools.quantize.study import read_figures
from firmware_tools.quantize.training import Settings, Training, train
from model.mars import network_file, reference
from model.mars.devices.device import Device, parse
from model.mars.devices.execution import NetworkArrays
from model.mars.network import Ints, QuantizedNetwork

FOLDER = Path("build") / "adaptation"
SIZES = (64, 128)
"""Rows and columns of the arrays."""
METHODS = ("unrepaired", "gain", "statistics", "fine-tune")
IMAGES = 1297
"""Training images that are adapted with, at most: those of the digits."""
NAMES = {"digits": "scikit-learn digits", "mnist": "5,000 images of MNIST as 8x8"}
BITS = 4


class DeepDigits(nn.Module):
    """Eight convolutions of 16, 32 and 64 channels, two residuals, two pools, a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.pool1 = nn.MaxPool2d(2)
        self.block1 = digits.Block(32)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(64)
        self.block2 = digits.Block(64)
        self.pool2 = nn.MaxPool2d(2)
        self.conv4 = nn.Conv2d(64, 64, 3, padding=1, bias=False)
        self.bn4 = nn.BatchNorm2d(64)
        self.fc = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (N, 1, 8, 8)."""
        import torch

        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.pool1(torch.relu(self.bn2(self.conv2(x))))
        x = self.block1(x)
        x = self.pool2(self.block2(torch.relu(self.bn3(self.conv3(x)))))
        x = torch.relu(self.bn4(self.conv4(x)))
        result: Tensor = self.fc(torch.flatten(x, 1))
        return result


@dataclass(frozen=True, kw_only=True)
class DeepSettings(Settings):
    """A training of `DeepDigits`."""

    weight_bits: int = BITS
    act_bits: int = BITS

    def new_model(self) -> nn.Module:
        """The network with real weights."""
        return DeepDigits()


@dataclass(frozen=True)
class Run:
    """One network on one chip.

    Parameters
    ----------
    size, seed : int
        Of the arrays; of training and chip.
    exact : float
        Share of the test images that the exact network gets right.
    accuracy : {str: float}
        By method.
    pc2 : {str: float}
        Second principal component by layer.
    """

    size: int
    seed: int
    exact: float
    accuracy: dict[str, float]
    pc2: dict[str, float]


def data_of(name: DataName) -> digits.Data:
    """Images to train with, and to test with."""
    return load(name).final if name == "mnist" else digits.load()


def network_of(seed: int, folder: Path, data: DataName, *, quick: bool) -> QuantizedNetwork:
    """The quantised network of a seed, out of a folder where it is kept once it is trained."""
    settings = DeepSettings(seed=seed)
    if quick:
        settings = replace(settings, float_epochs=1, epochs=1)
    path = folder / f"deep-{data}-{settings.float_epochs}-{seed}.npz"
    if not path.exists():
        network_file.dump(train(Training(settings, data_of(data))).network, path)
    return network_file.load(path)


def as_inputs(network: QuantizedNetwork, images: Tensor) -> Ints:
    """Images 0..1 as the network takes them."""
    values = images.double().numpy() / network.scales["input"]
    kind = network.input_type
    return np.clip(np.rint(values), kind.low, kind.high).astype(np.int64)


def accuracy(network: QuantizedNetwork, arrays: NetworkArrays | None, part: digits.Part) -> float:
    """Share of images that are classified rightly, on arrays or exactly."""
    inputs = as_inputs(network, part.images)
    products = None if arrays is None else arrays.products()
    logits = reference.run(network, inputs, products)[network.output]
    hits = logits.reshape(len(logits), -1).argmax(axis=1) == part.labels.numpy()
    return float(hits.mean())


def measure(network: QuantizedNetwork, device: Device, seed: int, data: digits.Data) -> Run:
    """All methods on one chip."""
    arrays = NetworkArrays(network, device, seed=seed)
    images = as_inputs(network, data.training.images)[:IMAGES]
    labels = data.training.labels.numpy()[:IMAGES]
    repaired = {
        "unrepaired": network,
        "gain": gain(network, arrays, images),
        "statistics": statistics(network, arrays, images),
        "fine-tune": fine_tune(network, arrays, images, labels, seed=seed),
    }
    found = {name: accuracy(one, arrays, data.test) for name, one in repaired.items()}
    components = dict(second_components(network, arrays))
    return Run(device.rows, seed, accuracy(network, None, data.test), found, components)


class Study:
    """All seeds on both sizes of arrays.

    Parameters
    ----------
    device : str
        As on a command line, without rows and columns.
    n_seeds : int
        Each is a training and a chip of its own.
    data : "digits" or "mnist"
    quick : bool
        Networks of one epoch: whether everything works, not how well.
    folder : Path
        For networks, and figures that have been measured.
    """

    def __init__(
        self,
        device: str,
        n_seeds: int,
        data: DataName = "digits",
        *,
        quick: bool = False,
        folder: Path = FOLDER,
    ) -> None:
        self._device = device
        self._n_seeds = n_seeds
        self._data: DataName = data
        self._quick = quick
        self._folder = folder

    def __len__(self) -> int:
        """Runs."""
        return self._n_seeds * len(SIZES)

    def run(self) -> Iterator[Run]:
        """All runs, those that have been measured at once."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / "runs.json"
        done = read_figures(file)
        for seed in range(self._n_seeds):
            network = network_of(seed, self._folder, self._data, quick=self._quick)
            for size in SIZES:
                mark = ":" if ":" not in self._device else ","
                text = f"{self._device}{mark}rows={size},columns={size}"
                key = f"{self._data} {network.name} {seed} {int(self._quick)} {text}"
                if key not in done:
                    done[key] = asdict(measure(network, parse(text), seed, data_of(self._data)))
                    file.write_text(json.dumps(done, indent=1), encoding="utf-8")
                yield Run(**done[key])


def markdown(runs: list[Run]) -> str:
    """Methods down, sizes across; mean and standard deviation of the seeds."""
    sizes = sorted({run.size for run in runs})
    n = len({run.seed for run in runs})
    lines = [
        "| accuracy, % | " + " | ".join(f"{size}x{size}" for size in sizes) + " |",
        "|---|" + "---|" * len(sizes),
        "| exact | " + " | ".join(_cell([r.exact for r in runs if r.size == s]) for s in sizes),
    ]
    lines[-1] += " |"
    for method in METHODS:
        cells = [_cell([r.accuracy[method] for r in runs if r.size == size]) for size in sizes]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    cells = [f"{max(max(r.pc2.values()) for r in runs if r.size == s):.4f}" for s in sizes]
    lines.append("| largest PC2 of a layer | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"Mean ± standard deviation of {n} seeds.", ""])


def _cell(shares: list[float]) -> str:
    percent = [100 * share for share in shares]
    spread = numbers.stdev(percent) if len(percent) > 1 else 0.0
    return f"{numbers.mean(percent):.2f} ± {spread:.2f}"


def bench(terminal: Terminal, *, device: str, n_seeds: int, data: DataName, quick: bool) -> None:
    """`kenyon bench adaptation`."""
    began = time.perf_counter()
    study = Study(device, n_seeds, data, quick=quick)
    runs: list[Run] = []
    with terminal.progress("chips", len(study)) as advance:
        for run in study.run():
            runs.append(run)
            advance(len(runs))
    terminal.result(
        {
            "data": f"{NAMES[data]}, {len(data_of(data).test):,} test images",
            "device": device,
            "runs": [asdict(run) for run in runs],
            "wall_seconds": time.perf_counter() - began,
        }
    )
    terminal.print(markdown(runs))
