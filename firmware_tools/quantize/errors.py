"""Errors of quantisation that the user can mend."""

from firmware_tools.errors import UserError


class QuantizationError(UserError):
    """The network cannot be quantised, trained or exported; the text says what would be right."""


class UnsupportedError(QuantizationError):
    """The module has a part that the accelerator does not have; the text names it."""


class CalibrationError(QuantizationError):
    """The network has not seen data yet, so its activations have no scale."""
