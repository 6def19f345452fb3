"""Devices that macros could be made of: what a network computes on arrays that are not exact."""
