"""Tools for spiking networks on the neural processing units."""
