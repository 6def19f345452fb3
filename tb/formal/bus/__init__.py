"""Proofs of buses."""
