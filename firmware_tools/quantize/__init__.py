"""Training for the accelerator: a float network, its quantised twin, the exported integers."""

from firmware_tools.quantize.difference import LayerDifference, differences
from firmware_tools.quantize.errors import CalibrationError, QuantizationError, UnsupportedError
from firmware_tools.quantize.quantizers import QUANTIZERS
from firmware_tools.quantize.sparsity import group_lasso, group_sparsity, prune
from firmware_tools.quantize.spiking import (
    SpikingTwin,
    export_spiking,
    one_step,
    spike,
    step_loss,
)
from firmware_tools.quantize.training import parameter_groups
from firmware_tools.quantize.twin import Twin, calibrate, export, quantize

__all__ = [
    "QUANTIZERS",
    "CalibrationError",
    "LayerDifference",
    "QuantizationError",
    "SpikingTwin",
    "Twin",
    "UnsupportedError",
    "calibrate",
    "differences",
    "export",
    "export_spiking",
    "group_lasso",
    "group_sparsity",
    "one_step",
    "parameter_groups",
    "prune",
    "quantize",
    "spike",
    "step_loss",
]
