"""What is done to the sources of a design for Icarus."""

from tb import four_state

CHIP = r"""module kenyon(clk, rst, irq, s_axil_rvalid, s_axil_rdata);
  reg \$auto$verilog_backend.cc:1:dump_module$1  = 0;
  reg signed [7:0] \state.v  = 8'h00;
  reg [31:0] array [3:0];
  output irq;
  output s_axil_rvalid;
  output [31:0] s_axil_rdata;
  initial begin
    array[0] = 32'd0;
  end
endmodule

module \kenyon.part (clk);
  reg on = 1'h1;
endmodule
"""
BOUND = """module monitor(input clk);
endmodule
bind kenyon monitor #(.WORDS(2)) monitor (
    .clk);
"""


def test_registers_begin_as_x_and_memories_do_not() -> None:
    chip = four_state.adapted({"kenyon.v": CHIP})["kenyon.v"]
    assert "  reg signed [7:0] \\state.v ;\n" in chip
    assert "  reg on;\n" in chip
    assert "dump_module$1 ; initial #0 \\$auto$verilog_backend.cc:1:dump_module$1 = 0;\n" in chip
    assert "    array[0] = 32'd0;\n" in chip


def test_what_is_bound_is_put_into_its_module() -> None:
    texts = four_state.adapted({"kenyon.v": CHIP, "monitor.sv": BOUND, "scene.json": "{}"})
    assert "bind" not in texts["monitor.sv"]
    top, _, rest = texts["kenyon.v"].partition("endmodule")
    assert "monitor #(.WORDS(2)) monitor (\n    .clk);\n" in top
    assert "monitor" not in rest
    assert texts["scene.json"] == "{}"


def test_ports_are_watched_while_they_count() -> None:
    chip = four_state.adapted({"kenyon.v": CHIP})["kenyon.v"]
    assert "if (^irq === 1'bx) $fatal" in chip
    assert "if (^s_axil_rvalid === 1'bx) $fatal" in chip
    assert "if (|s_axil_rvalid && ^s_axil_rdata === 1'bx) $fatal" in chip
