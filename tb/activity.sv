// Dumps what toggles in the chip while a bench holds `dump`.
module activity;
  bit dump /*verilator public_flat_rw*/ = 0;
  always @(posedge dump) begin
    $dumpfile("activity.vcd");
    $dumpvars(0, kenyon);
  end
  always @(negedge dump) $dumpoff;
endmodule
bind kenyon activity activity();
