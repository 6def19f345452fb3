"""The golden model of the sparse compute-in-memory accelerator, after MARS."""
