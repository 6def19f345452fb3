"""Co-simulation of a chip with both halves."""
