"""Benches of boards, and boards in simulation behind their pins."""
