"""Proofs of the accelerator's blocks."""
