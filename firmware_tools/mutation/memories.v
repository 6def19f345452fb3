// Ports of memories, so that only what counts has to be the same: an address where there is no
// access, and a word that is not written, do not.

(* techmap_celltype = "$memrd_v2" *)
module _read (CLK, EN, ARST, SRST, ADDR, DATA);
    parameter MEMID = "", ABITS = 1, WIDTH = 1, CLK_ENABLE = 0, CLK_POLARITY = 0;
    parameter TRANSPARENCY_MASK = 0, COLLISION_X_MASK = 0, CE_OVER_SRST = 0;
    parameter ARST_VALUE = 0, SRST_VALUE = 0, INIT_VALUE = 0;
    input CLK, EN, ARST, SRST;
    input [ABITS-1:0] ADDR;
    output [WIDTH-1:0] DATA;
    memory_read #(.ABITS(ABITS), .WIDTH(WIDTH)) port (
        .enable(EN), .addr(EN || !CLK_ENABLE ? ADDR : {ABITS{1'b0}}), .data(DATA));
endmodule

(* techmap_celltype = "$memwr_v2" *)
module _write (CLK, EN, ADDR, DATA);
    parameter MEMID = "", ABITS = 1, WIDTH = 1, CLK_ENABLE = 0, CLK_POLARITY = 0;
    parameter PORTID = 0, PRIORITY_MASK = 0;
    input CLK;
    input [ABITS-1:0] ADDR;
    input [WIDTH-1:0] DATA, EN;
    memory_write #(.ABITS(ABITS), .WIDTH(WIDTH)) port (
        .enable(EN), .addr(|EN ? ADDR : {ABITS{1'b0}}), .data(DATA & EN));
endmodule
