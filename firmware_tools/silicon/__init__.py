"""Area, clock and energy of a chip in 180 nm."""
