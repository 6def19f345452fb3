// Dumps what toggles in the chip from where a bench sets `dump`; it is in the dump itself, and where
// it falls, what counts has ended (Verilator goes on after $dumpoff).
module activity;
  bit dump /*verilator public_flat_rw*/ = 0;
  always @(posedge dump) begin
    $dumpfile("activity.vcd");
    $dumpvars(0, kenyon);
  end
endmodule
bind kenyon activity activity();
