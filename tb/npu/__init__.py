"""Benches of the neural processing units."""
