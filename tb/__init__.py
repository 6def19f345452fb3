"""Benches on cocotb and Verilator: they drive the RTL and compare it with the golden model."""
