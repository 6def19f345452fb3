"""What `kenyon adapt` does: images, one chip, and how far it is from the exact network."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from firmware_tools.adaptation import moments
from firmware_tools.adaptation.errors import AdaptationError
from firmware_tools.mars.devices import Spread, spread
from model.mars import network_file, reference
from model.mars.devices.device import Device
from model.mars.devices.execution import NetworkArrays
from model.mars.network import Conv, Dense, Ints, NetworkError, QuantizedNetwork, check_features

Method = Literal["statistics", "fine-tune", "gain"]
DIGITS = (1, 8, 8)


@dataclass(frozen=True)
class Images:
    """What is adapted with, and what is measured with.

    Parameters
    ----------
    inputs : (N, C, H, W) int
    labels : (N,) int or None
    test_inputs, test_labels : as those
        Those of the digits; else the same images, whose accesses have other draws.
    has_test : bool
    """

    inputs: Ints
    labels: Ints | None
    test_inputs: Ints
    test_labels: Ints | None
    has_test: bool


@dataclass(frozen=True)
class Adapted:
    """What came out.

    Parameters
    ----------
    network : QuantizedNetwork
    pc2, factors : {str: float}
        By layer: second principal component, and by what its factors were multiplied in the mean.
    before, after : Spread
        Of the chip against the exact network.
    accuracy : (float, float, float) or None
        Share of the test images that are right: exact, before, after.
    """

    network: QuantizedNetwork
    pc2: Mapping[str, float]
    factors: Mapping[str, float]
    before: Spread
    after: Spread
    accuracy: tuple[float, float, float] | None

    def as_json(self) -> dict[str, object]:
        """The figures."""
        names = ("exact", "before", "after")
        right = None if self.accuracy is None else dict(zip(names, self.accuracy, strict=True))
        return {
            "pc2": dict(self.pc2),
            "factors": dict(self.factors),
            "before": self.before.as_json(),
            "after": self.after.as_json(),
            "accuracy": right,
        }


def load_images(network: QuantizedNetwork, images: Path | None, labels: Path | None) -> Images:
    """Those of files, or the digits.

    Raises
    ------
    AdaptationError
        The network does not take digits, or a file is not what it must be.
    """
    if images is None:
        return _digits(network)
    for path in (images, labels):
        if path is not None and path.suffix != ".npy":
            raise AdaptationError(f"{path}: must end in .npy")
    array = network_file.load_array(images)
    try:
        inputs = check_features(network.input_type, array)
    except NetworkError as error:
        raise AdaptationError(f"{images}: {error}") from None
    classes = None if labels is None else np.asarray(network_file.load_array(labels))
    if classes is not None:
        moments.check_labels(network, len(inputs), classes)
    return Images(inputs, classes, inputs, classes, has_test=False)


def _digits(network: QuantizedNetwork) -> Images:
    if network.input_type.shape != DIGITS or "input" not in network.scales:
        raise AdaptationError(
            f"--input must be given: {network.name} takes maps of {network.input_type.shape}, "
            f"and digits are {DIGITS}"
        )
    from firmware_tools.adaptation.study import as_inputs
    from firmware_tools.quantize import digits

    data = digits.load()
    return Images(
        as_inputs(network, data.training.images),
        data.training.labels.numpy(),
        as_inputs(network, data.test.images),
        data.test.labels.numpy(),
        has_test=True,
    )


def adapt(
    network: QuantizedNetwork, device: Device, seed: int, method: Method, images: Images
) -> Adapted:
    """Adapt a network to a chip; raises as the methods do."""
    moments.check(network)
    arrays = NetworkArrays(network, device, seed=seed)
    match method:
        case "statistics":
            adapted = moments.statistics(network, arrays, images.inputs)
        case "gain":
            adapted = moments.gain(network, arrays, images.inputs)
        case "fine-tune":
            adapted = _fine_tuned(network, arrays, images, seed)
    exact = reference.run(network, images.test_inputs)[network.output]
    before, after = (
        reference.run(one, images.test_inputs, arrays.products())[network.output]
        for one in (network, adapted)
    )
    right = None
    if images.test_labels is not None:
        shares = [_right(one, images.test_labels) for one in (exact, before, after)]
        right = shares[0], shares[1], shares[2]
    return Adapted(
        adapted,
        moments.second_components(network, arrays),
        _factors(network, adapted),
        spread(exact, [before]),
        spread(exact, [after]),
        right,
    )


def _fine_tuned(
    network: QuantizedNetwork, arrays: NetworkArrays, images: Images, seed: int
) -> QuantizedNetwork:
    from firmware_tools.adaptation.fine_tuning import fine_tune

    if images.labels is None:
        raise AdaptationError("--labels must be given: --method fine-tune learns from classes")
    return fine_tune(network, arrays, images.inputs, images.labels, seed=seed)


def _right(results: Ints, labels: Ints) -> float:
    return float(np.mean(results.reshape(len(results), -1).argmax(axis=1) == labels))


def _factors(before: QuantizedNetwork, after: QuantizedNetwork) -> dict[str, float]:
    """Geometric mean of what channels' factors were multiplied by."""
    result = {}
    for one, its in zip(before.layers, after.layers, strict=True):
        if isinstance(one, Conv | Dense) and isinstance(its, Conv | Dense):
            old, new = moments.factors(one), moments.factors(its)
            lives = (old > 0) & (new > 0)
            result[one.name] = float(np.exp(np.mean(np.log(new[lives] / old[lives]))))
    return result
