"""From the RTL to a netlist of standard cells."""
