// Adders of up to MOST bits carry from bit to bit: slower than Yosys' own, but less logic toggles.
(* techmap_celltype = "$alu" *)
module ripple (A, B, CI, BI, X, Y, CO);
  parameter A_SIGNED = 0, B_SIGNED = 0, A_WIDTH = 1, B_WIDTH = 1, Y_WIDTH = 1;
  localparam MOST = 12;
  input [A_WIDTH-1:0] A;
  input [B_WIDTH-1:0] B;
  input CI, BI;
  output [Y_WIDTH-1:0] X, Y, CO;
  wire _TECHMAP_FAIL_ = Y_WIDTH > MOST || A_WIDTH == 0 || B_WIDTH == 0;

  wire [Y_WIDTH-1:0] a, wide, b, carry;
  generate
    if (A_SIGNED) assign a = $signed(A); else assign a = A;
    if (B_SIGNED) assign wide = $signed(B); else assign wide = B;
  endgenerate
  assign b = wide ^ {Y_WIDTH{BI}};
  assign X = a ^ b;
  assign carry = {CO, CI};
  assign CO = (a & b) | (X & carry);
  assign Y = X ^ carry;
endmodule
