"""The neural processing units (POPPINS)."""
