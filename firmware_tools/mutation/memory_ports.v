// What memories.v makes of the ports of memories: nothing is known of what is behind them.

(* keep, keep_hierarchy *)
module memory_read #(parameter ABITS = 1, WIDTH = 1)
    (input enable, input [ABITS-1:0] addr, output [WIDTH-1:0] data);
endmodule

(* keep, keep_hierarchy *)
module memory_write #(parameter ABITS = 1, WIDTH = 1)
    (input [WIDTH-1:0] enable, input [ABITS-1:0] addr, input [WIDTH-1:0] data);
endmodule
