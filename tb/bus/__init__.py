"""Benches of buses."""
