"""From a netlist to a routed layout, with Debian's graywolf, qrouter, magic and netgen."""
