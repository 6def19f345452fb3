"""The chip in Amaranth HDL. Parameters and bit layouts come from `model`, arithmetic does not."""
