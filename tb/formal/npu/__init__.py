"""Proofs of the processor's blocks."""
