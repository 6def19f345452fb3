"""A whole network on arrays of a device, layer by layer and many images at once.

Convolutions and dense layers are computed by arrays; everything else is digital. A layer's weights
stand in the arrays as on the macros, tap by tap and in each tap channel by channel, each group of
a grouped convolution in arrays of its own. Unlike the macros, arrays also hold weights that are 0.
"""

from collections.abc import Mapping

import numpy as np

from model.mars import reference
from model.mars.devices.crossbar import Crossbar, Ints
from model.mars.devices.device import Device
from model.mars.devices.draws import Floats
from model.mars.network import Conv, Dense, FeatureType, QuantizedNetwork

ENTRIES_MAX = 1 << 23
"""Activations and draws that are held at once."""


class LayerArrays:
    """The arrays of one layer.

    Parameters
    ----------
    layer : Conv or Dense
    source : FeatureType
        Of what the layer reads.
    device : Device
    seed, trial : int
        Key of the draws.
    place : int
        Number of the layer.
    """

    def __init__(
        self,
        layer: Conv | Dense,
        source: FeatureType,
        device: Device,
        *,
        seed: int,
        trial: int,
        place: int,
    ) -> None:
        self.layer = layer
        self.source = source
        by_group = _by_group(layer)
        self._groups, n_rows, n_kernels = by_group.shape
        self._rows = device.rows
        self._n_tiles = -(-n_rows // device.rows)
        self._missing = self._n_tiles * device.rows - n_rows
        filled = np.pad(by_group, ((0, 0), (0, self._missing), (0, 0)))
        there = np.arange(self._n_tiles * device.rows) < n_rows
        self.crossbar = Crossbar(
            device,
            filled.reshape(-1, device.rows, n_kernels),
            np.tile(there.reshape(-1, device.rows), (self._groups, 1)),
            1 << (layer.weight_bits - 1),
            seed=seed,
            trial=trial,
            place=place,
        )

    def held_weights(self) -> Floats:
        """What the arrays amount to as weights, in the shape of the layer's."""
        by_group = self.crossbar.weights.reshape(self._groups, self._n_tiles * self._rows, -1)
        by_group = by_group[:, : by_group.shape[1] - self._missing]
        weight = self.layer.weight
        if isinstance(self.layer, Dense):
            return np.asarray(by_group[0].T)
        _, n_channels, rows, columns = weight.shape
        by_tap = by_group.reshape(self._groups, rows, columns, n_channels, -1)
        return by_tap.transpose(0, 4, 3, 1, 2).reshape(weight.shape)

    def products(self, source: Ints, image: int, step: int) -> Ints:
        """Sums of products (N, Cout, rows, columns), the bias not included.

        Parameters
        ----------
        source : (N, C, H, W) int
        image, step : int
            Number of the first image, and the time step: key of the draws of accesses.
        """
        windows, size = _windows(self.layer, source)  # (N, groups, pixels, rows)
        n_images, _, n_pixels, _ = windows.shape
        per_image = self._n_tiles * self._groups * self._rows * n_pixels
        if self.crossbar.is_noisy:
            per_image += int(np.prod(self.crossbar.n_draws(self.source.bits, n_pixels)))
        n = max(1, ENTRIES_MAX // per_image)
        parts = [self._sums(windows[k : k + n], image + k, step) for k in range(0, n_images, n)]
        sums = np.concatenate(parts)  # (N, groups, pixels, kernels)
        return sums.swapaxes(2, 3).reshape(n_images, -1, *size)

    def _sums(self, windows: Ints, image: int, step: int) -> Ints:
        bits, signed = self.source.bits, self.source.signed
        n_images, _, n_pixels, _ = windows.shape
        a = np.pad(windows, ((0, 0), (0, 0), (0, 0), (0, self._missing)))
        draws = None
        if self.crossbar.is_noisy:
            each = [self.crossbar.draws(bits, n_pixels, image + k, step) for k in range(n_images)]
            draws = np.stack(each)
        total = np.zeros((n_images, self._groups, n_pixels, self.crossbar.slices.shape[-1]), int)
        for group, tile in np.ndindex(self._groups, self._n_tiles):
            array = group * self._n_tiles + tile
            rows = slice(tile * self._rows, (tile + 1) * self._rows)
            mine = None if draws is None else draws[:, array]
            seen = np.ascontiguousarray(a[:, group, :, rows])
            total[:, group] += self.crossbar.read(array, seen, bits, signed=signed, draws=mine)
        return np.asarray(total, np.int64)


class NetworkArrays:
    """The arrays of a network, programmed once.

    Parameters
    ----------
    network : QuantizedNetwork
        Its weights are programmed.
    device : Device or {str: Device}
        Of all layers, or by layer; those that are not named are exact.
    seed, trial : int
        Another seed or trial is another chip.

    Members
    -------
    layers : {str: LayerArrays}
        By name, in order.
    """

    def __init__(
        self,
        network: QuantizedNetwork,
        device: Device | Mapping[str, Device],
        *,
        seed: int = 0,
        trial: int = 0,
    ) -> None:
        self.network = network
        self.layers: dict[str, LayerArrays] = {}
        for place, layer in enumerate(network.layers):
            if isinstance(layer, Conv | Dense):
                own = device if isinstance(device, Device) else device.get(layer.name)
                if own is not None:
                    self.layers[layer.name] = LayerArrays(
                        layer, network.types[layer.input], own, seed=seed, trial=trial, place=place
                    )

    def products(self, image: int = 0) -> reference.Products:
        """How `reference.run` lets these arrays compute; `image` is the first one's number."""
        steps: dict[str, int] = dict.fromkeys(self.layers, 0)

        def compute(layer: Conv | Dense, source: Ints) -> Ints:
            if layer.name not in self.layers:
                return reference.exact_products(layer, source)
            step = steps[layer.name]
            steps[layer.name] += 1
            return self.layers[layer.name].products(source, image, step)

        return compute

    def run(self, inputs: Ints, image: int = 0) -> Mapping[str, Ints]:
        """Results of all layers, as of `reference.run`."""
        return reference.run(self.network, inputs, self.products(image))


def _by_group(layer: Conv | Dense) -> Ints:
    """Weights (groups, taps and channels, kernels)."""
    if isinstance(layer, Dense):
        return np.asarray(layer.weight.T[np.newaxis])
    n_kernels, n_channels, rows, columns = layer.weight.shape
    split = layer.weight.reshape(layer.groups, n_kernels // layer.groups, n_channels, rows, columns)
    return split.transpose(0, 3, 4, 2, 1).reshape(layer.groups, rows * columns * n_channels, -1)


def _windows(layer: Conv | Dense, source: Ints) -> tuple[Ints, tuple[int, int]]:
    """What each pixel's rows are driven with, (N, groups, pixels, rows), and the map's size."""
    if isinstance(layer, Dense):
        return source.reshape(len(source), 1, 1, -1), (1, 1)
    padded = reference.padded(source, layer.padding, layer.pad_value)
    reach = tuple((k - 1) * d + 1 for k, d in zip(layer.kernel, layer.dilation, strict=True))
    views = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    views = views[:, :, :: layer.stride[0], :: layer.stride[1]]
    views = views[..., :: layer.dilation[0], :: layer.dilation[1]]
    n_images, _, n_rows, n_columns = views.shape[:4]
    split = views.reshape(n_images, layer.groups, -1, *views.shape[2:])
    ordered = split.transpose(0, 1, 3, 4, 5, 6, 2)
    return ordered.reshape(n_images, layer.groups, n_rows * n_columns, -1), (n_rows, n_columns)
