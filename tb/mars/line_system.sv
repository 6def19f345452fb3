// The line reader in front of the memory for whole frames; `DATA_WIDTH comes with the design.

module line_system (
    input clk, rst, reload, start, stop, clear,
    input regions_valid,
    input [49:0] regions_payload,
    output regions_ready,
    input lines_ready,
    output lines_valid,
    output [511:0] lines_payload,
    output error, busy
);
    wire arid, arvalid, arready, rid, rlast, rvalid, rready;
    wire [31:0] araddr;
    wire [7:0] arlen;
    wire [3:0] arcache;
    wire [2:0] arsize, arprot;
    wire [1:0] arburst, rresp;
    wire [`DATA_WIDTH-1:0] rdata;

    line_reader reader (
        .clk, .rst, .start, .stop, .clear, .error, .busy,
        .regions_valid, .regions_payload, .regions_ready,
        .lines_ready, .lines_valid, .lines_payload,
        .axi_arid(arid), .axi_araddr(araddr), .axi_arlen(arlen), .axi_arsize(arsize),
        .axi_arburst(arburst), .axi_arcache(arcache), .axi_arprot(arprot),
        .axi_arvalid(arvalid), .axi_arready(arready),
        .axi_rid(rid), .axi_rdata(rdata), .axi_rresp(rresp), .axi_rlast(rlast),
        .axi_rvalid(rvalid), .axi_rready(rready)
    );
    axi_memory #(.DATA_WIDTH(`DATA_WIDTH)) memory (
        .clk, .rst, .reload,
        .arid, .araddr, .arlen, .arsize, .arburst, .arvalid, .arready,
        .rid, .rdata, .rresp, .rlast, .rvalid, .rready,
        .awid(1'b0), .awaddr(32'd0), .awlen(8'd0), .awsize(3'd0), .awburst(2'd0), .awvalid(1'b0),
        .awready(), .wdata('0), .wstrb('0), .wlast(1'b0), .wvalid(1'b0), .wready(),
        .bid(), .bresp(), .bvalid(), .bready(1'b1)
    );
endmodule
