"""What a network really loses on a choice of devices, chip by chip: jobs for any executor."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from firmware_tools.imported import ModelImport
from firmware_tools.jobs import code
from firmware_tools.jobs.job import JSON
from firmware_tools.mars.inputs import load_images, load_model
from firmware_tools.search.errors import SearchError
from firmware_tools.search.reduction import AS_IT_IS, Reduction, effective, reduced
from firmware_tools.search.space import Option
from hw.cache import key
from model.mars import network_file, reference
from model.mars.devices.device import parse
from model.mars.devices.execution import LayerArrays, NetworkArrays
from model.mars.network import Ints, QuantizedNetwork

DIGITS = (1, 8, 8)
HELD_WEIGHTS = 1 << 24
"""Weights in arrays that a process keeps for the next job."""
Part = Literal["selection", "test"]


@dataclass(frozen=True)
class Task:
    """What is measured with, by name, so that jobs are small.

    Attributes
    ----------
    network : str
        File; on a cluster every node must have it there, with this content.
    content : str
        A name for what the files hold.
    images, labels : str or None
        Files; without any, digits for a network that takes them, else random ones.
    count : int
        Images, at most.
    seed : int
        Of random images.
    """

    network: str
    content: str
    images: str | None
    labels: str | None
    count: int
    seed: int


def task(network: Path, images: Path | None, labels: Path | None, count: int, seed: int) -> Task:
    """Of files as they are now."""
    names = [str(one.resolve()) if one else None for one in (network, images, labels)]
    assert names[0] is not None
    return Task(names[0], _content(tuple(names)), names[1], names[2], count, seed)


def _content(names: tuple[str | None, ...]) -> str:
    return key(*(b"" if one is None else Path(one).read_bytes() for one in names))


@dataclass(frozen=True)
class Sample:
    """Images, their classes if there are any, and what the exact network says.

    Attributes
    ----------
    source : str
        What images they are, for people.
    """

    inputs: Ints
    labels: Ints | None
    exact: Ints
    source: str


@lru_cache(maxsize=4)
def model_of(one: Task) -> ModelImport:
    """The network of a task.

    Raises
    ------
    SearchError
        Files are not those that the task was made for.
    """
    if _content((one.network, one.images, one.labels)) != one.content:
        raise SearchError(f"{one.network}: network, images and labels must be as they were")
    return load_model(Path(one.network))


@lru_cache(maxsize=8)
def sample_of(one: Task, part: Part) -> Sample:
    """Images to choose with, or others to report with.

    Raises
    ------
    SearchError
        Labels do not belong to the images.
    """
    network = model_of(one).network
    inputs, labels, source = _inputs(one, part, network)
    exact = reference.run(network, inputs)[network.output]
    if labels is not None and (exact.shape[1] < 2 or exact.shape[2:] != (1, 1)):
        raise SearchError(f"{network.name}: results must be logits to have labels")
    return Sample(inputs, labels, exact, source)


def _inputs(one: Task, part: Part, network: QuantizedNetwork) -> tuple[Ints, Ints | None, str]:
    if one.images is not None:
        inputs = load_images(Path(one.images), model_of(one))
        labels = None if one.labels is None else np.asarray(network_file.load_array(one.labels))
        is_class = labels is None or labels.dtype.kind in "iu"
        if labels is not None and not (is_class and labels.shape == inputs.shape[:1]):
            raise SearchError(
                f"{one.labels}: labels must be {len(inputs)} integers, a class for each image, "
                f"not {labels.dtype} of shape {labels.shape}"
            )
        # The first half chooses, the second one reports.
        half = len(inputs) // 2
        if not half:
            raise SearchError(f"{one.images}: images must be at least 2: to choose, to report")
        mine = slice(0, half) if part == "selection" else slice(half, None)
        mine = slice(mine.start, min(mine.stop or len(inputs), mine.start + one.count))
        return inputs[mine], None if labels is None else labels[mine], Path(one.images).name
    kind = network.input_type
    if kind.shape == DIGITS and not kind.time_steps and "input" in network.scales:
        return *_digits(one, part, network), "scikit-learn digits"
    rng = np.random.default_rng((one.seed, ("selection", "test").index(part)))
    shape = (one.count, *kind.array_shape)
    return rng.integers(kind.low, kind.high + 1, shape), None, "random images"


def _digits(one: Task, part: Part, network: QuantizedNetwork) -> tuple[Ints, Ints]:
    from firmware_tools.adaptation.study import as_inputs
    from firmware_tools.quantize import digits

    data = digits.load(held_out=part == "selection").test
    return as_inputs(network, data.images)[: one.count], data.labels.numpy()[: one.count]


class _Held:
    """Programmed arrays of layers, the latest ones; programming takes longer than reading."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrays: OrderedDict[tuple[object, ...], LayerArrays] = OrderedDict()
        self._n_weights = 0

    def layer(
        self, one: "Measurement", network: QuantizedNetwork, name: str, text: str
    ) -> LayerArrays:
        seed, trial = one.seed, one.trial
        # Of all reductions only a layer's own change what its arrays hold.
        own = dict(one.reductions).get(name, AS_IT_IS)
        place = (one.task.content, name, text, own, seed, trial)
        with self._lock:
            if place in self._arrays:
                self._arrays.move_to_end(place)
                return self._arrays[place]
        device = {name: parse(text)}
        made = NetworkArrays(network, device, seed=seed, trial=trial).layers[name]
        with self._lock:
            if place not in self._arrays:
                self._arrays[place] = made
                self._n_weights += made.layer.weight.size
            while self._n_weights > HELD_WEIGHTS and len(self._arrays) > 1:
                self._n_weights -= self._arrays.popitem(last=False)[1].layer.weight.size
        return made


_HELD = _Held()


@dataclass(frozen=True)
class Measurement:
    """A job: one choice of devices on one chip.

    Attributes
    ----------
    task : Task
    devices : {layer: device} as a tuple of pairs
        Layers that are not named are exact.
    seed, trial : int
        Key of the chip's draws.
    part : "selection" or "test"
    reductions : {layer: reduction} as a tuple of pairs
        Layers that are not named are as they are.
    """

    task: Task
    devices: tuple[tuple[str, str], ...]
    seed: int
    trial: int
    part: Part
    reductions: tuple[tuple[str, Reduction], ...] = ()

    @property
    def key(self) -> str:
        own = code.digest((__name__,), without=("hw", "tb"))
        given = (self.task.content, self.task.count, self.task.seed)
        return key(
            "search devices",
            own,
            repr((given, self.devices, self.reductions)),
            f"{self.seed} {self.trial}",
            self.part,
        )

    def keeps(self, _result: JSON) -> bool:
        """All are decided by the key."""
        return True

    def run(self) -> JSON:
        """Noise: share of the results' variance that no gain explains; drop: points, or None."""
        with threadpool_limits(1):
            sample = sample_of(self.task, self.part)
            if not self.devices and not self.reductions:
                return {"noise": 0.0, "drop": None if _classes(sample.exact) is None else 0.0}
            results = self._results(sample)
        return {"noise": noise(sample.exact, results), "drop": drop(sample, results)}

    def _results(self, sample: Sample) -> Ints:
        network = reduced(model_of(self.task).network, dict(self.reductions))
        arrays = NetworkArrays(network, {})
        arrays.layers |= {
            name: _HELD.layer(self, network, name, text) for name, text in self.devices
        }
        return np.asarray(arrays.run(sample.inputs)[network.output])


def noise(exact: Ints, seen: Ints) -> float:
    """Share of what is seen that is not the exact results times any gain, each channel centred."""
    e, s = (one.reshape(len(one), -1).astype(np.float64) for one in (exact, seen))
    if len(e) > 1:
        e, s = e - e.mean(axis=0), s - s.mean(axis=0)
    energy, total = float((e * e).sum()), float((s * s).sum())
    if not energy or not total:
        return 0.0 if np.array_equal(exact, seen) else 1.0
    explained = float((e * s).sum()) ** 2 / energy
    return max(0.0, total - explained) / total


def drop(sample: Sample, seen: Ints) -> float | None:
    """Points of accuracy that are lost; without labels, of images whose class changes."""
    exact, own = _classes(sample.exact), _classes(seen)
    if exact is None or own is None:
        return None
    if sample.labels is None:
        return 100 * float(np.mean(exact != own))
    return 100 * float(np.mean(exact == sample.labels) - np.mean(own == sample.labels))


def _classes(results: Ints) -> Ints | None:
    """Of logits; of a spiking network those of the last step."""
    last = results[:, -1] if results.ndim == 5 else results
    if last.shape[1] < 2 or last.shape[2:] != (1, 1):
        return None
    return np.asarray(last.reshape(len(last), -1).argmax(axis=1))


def measurement(
    one: Task, options: Mapping[str, Option], seed: int, trial: int, part: Part
) -> Measurement:
    """The job for an option of each layer; those that are not named are exact."""
    network = model_of(one).network
    own = {name: effective(network, name, each.reduction) for name, each in options.items()}
    return Measurement(
        one,
        tuple((name, each.text) for name, each in options.items() if not each.is_exact),
        seed,
        trial,
        part,
        tuple((name, each) for name, each in own.items() if each != AS_IT_IS),
    )
