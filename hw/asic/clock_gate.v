// Passes the clock while CE, taken while the clock is low, is 1. LATCH is open while CLK is 1.
module ICG(input CE, input CLK, output GCLK);
  wire closed, enable;
  INVX1 inverter(.A(CLK), .Y(closed));
  LATCH latch(.D(CE), .CLK(closed), .Q(enable));
  AND2X2 gate(.A(CLK), .B(enable), .Y(GCLK));
endmodule
