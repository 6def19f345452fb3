// Yosys' full adder is the library's.
(* techmap_celltype = "$fa" *)
module full_adder (A, B, C, X, Y);
  parameter WIDTH = 1;
  input A, B, C;
  output X, Y;
  FAX1 cell (.A(A), .B(B), .C(C), .YC(X), .YS(Y));
endmodule
