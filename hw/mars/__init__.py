"""Sparse compute-in-memory accelerator, after MARS."""
