"""Tools for quantised networks on the accelerator."""
