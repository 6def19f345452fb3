"""How a host reaches the chip."""
