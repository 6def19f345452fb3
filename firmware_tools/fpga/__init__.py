"""A chip on an FPGA: synthesis with Yosys, place and route with nextpnr."""
