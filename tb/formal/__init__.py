"""Proofs of the RTL: every input at every clock, instead of some."""
