"""Benches of the blocks of the accelerator."""
