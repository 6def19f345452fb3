"""Proofs of boards."""
