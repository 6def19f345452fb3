"""Normalisation that adapts to a device: new biases, multipliers and shifts, after 2305.18416."""
