"""Golden model of the neural processing units (POPPINS)."""
