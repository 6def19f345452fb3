"""What cells hold: programming, drift, retention, 1/f noise."""

import numpy as np

from model.mars.devices.device import Device, Fit
from model.mars.devices.draws import Floats, What, generator

FLICKER_READ_S = 250e-9
"""How long phase-change cells are read (Nandakumar et al., ICECS 2019)."""


def deviation(device: Device, share: float, fit: Fit, g: Floats) -> Floats:
    """Standard deviation, uS, of cells at g uS: ``share * g_max * max(0, fit(g/g_max))``."""
    relative = np.polynomial.polynomial.polyval(g / device.g_max, fit)
    return np.asarray(share * device.g_max * np.maximum(relative, 0.0))


def _clipped(fit: Fit, g_relative: Floats) -> Floats:
    """``clip(a*ln(g/g_max) + b, low, high)``; of 0 as of 1e-7."""
    a, b, low, high = fit
    return np.clip(a * np.log(np.maximum(g_relative, 1e-7)) + b, low, high)


def flicker(device: Device, g_programmed: Floats, g: Floats) -> Floats:
    """Standard deviation, uS, of the 1/f noise of phase-change cells at the device's age.

    ``g * min(.0088/(g_programmed/g_max)^.65, .2) * sqrt(ln((t + t_read)/(2*t_read)))``, with the
    time t since programming (Nandakumar et al., ICECS 2019; aihwkit's `PCMLikeNoiseModel`).
    """
    relative = np.maximum(g_programmed / device.g_max, 1e-12)
    quality = np.minimum(0.0088 / relative**0.65, 0.2)
    since = device.age + device.drift_start
    decades = np.log((since + FLICKER_READ_S) / (2 * FLICKER_READ_S))
    return np.asarray(device.flicker * g * quality * np.sqrt(max(decades, 0.0)))


def held(device: Device, target: Floats, seed: int, trial: int, place: int) -> Floats:
    """What cells that were programmed to a target hold at the device's age, uS.

    Parameters
    ----------
    device : Device
    target : (...) float64
        uS, g_min..g_max.
    seed, trial, place : int
        Key of the draws; `place` tells which cells they are.
    """

    def normal(what: What) -> Floats:
        return generator(seed, trial, what, place).standard_normal(target.shape)

    g = target
    if device.program_noise:
        sd = deviation(device, device.program_noise, device.program_fit, target)
        g = np.maximum(g + sd * normal(What.PROGRAM), 0.0)
    programmed = g
    if device.drift:
        relative = target / device.g_max
        mean, spread = (_clipped(fit, relative) for fit in (device.drift_mean, device.drift_spread))
        nu = device.drift * np.abs(mean + spread * normal(What.DRIFT))
        g = g * ((device.age + device.drift_start) / device.drift_start) ** -nu
    if np.isfinite(device.retention):
        left = np.exp(-device.age / device.retention)
        g = device.g_min + (g - device.g_min) * left
    if device.flicker:
        sd = flicker(device, programmed, g)
        g = np.maximum(g + sd * normal(What.FLICKER), 0.0)
    if device.stuck_on or device.stuck_off:
        u = generator(seed, trial, What.STUCK, place).random(target.shape)
        g = np.where(u < device.stuck_on, device.g_max, g)
        g = np.where(u >= 1 - device.stuck_off, device.g_min, g)
    return g
