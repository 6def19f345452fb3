// The chip with its weight memory, and a file of everything that leaves post-processing.

module mars_system #(parameter int WEIGHT_BUS = 512, parameter int MACROS = 8) (
    input clk, rst, reload,
    input [31:0] s_axil_awaddr, s_axil_wdata, s_axil_araddr,
    input [2:0] s_axil_awprot, s_axil_arprot,
    input [3:0] s_axil_wstrb,
    input s_axil_awvalid, s_axil_wvalid, s_axil_bready, s_axil_arvalid, s_axil_rready,
    output s_axil_awready, s_axil_wready, s_axil_bvalid, s_axil_arready, s_axil_rvalid,
    output [1:0] s_axil_bresp, s_axil_rresp,
    output [31:0] s_axil_rdata,
    output irq
);
    wire [31:0] araddr;
    wire [7:0] arlen;
    wire [2:0] arsize;
    wire [1:0] arburst, rresp;
    wire [3:0] arcache;
    wire [2:0] arprot;
    wire arid, arvalid, arready, rid, rlast, rvalid, rready;
    wire [WEIGHT_BUS-1:0] rdata;
    wire value_valid, write, pass_done;
    wire [511:0] values;
    wire [255:0] membranes;
    wire [7:0] write_row;
    wire [15:0] write_offset;
    wire [3:0] write_halves;
    wire [127:0] write_data;
    wire [31:0] clock;
    wire [MACROS-1:0] store_macros;
    wire [15:0] store_addr, store_mask;
    wire [128*MACROS-1:0] store_data;

    kenyon chip (
        .m_axi_weights_araddr(araddr), .m_axi_weights_arlen(arlen), .m_axi_weights_arsize(arsize),
        .m_axi_weights_arburst(arburst), .m_axi_weights_arid(arid),
        .m_axi_weights_arcache(arcache), .m_axi_weights_arprot(arprot),
        .m_axi_weights_arvalid(arvalid), .m_axi_weights_arready(arready),
        .m_axi_weights_rid(rid), .m_axi_weights_rdata(rdata), .m_axi_weights_rresp(rresp),
        .m_axi_weights_rlast(rlast), .m_axi_weights_rvalid(rvalid), .m_axi_weights_rready(rready),
        .trace_mars_value_valid(value_valid), .trace_mars_values(values),
        .trace_mars_membranes(membranes),
        .trace_mars_write(write), .trace_mars_write_row(write_row),
        .trace_mars_write_offset(write_offset), .trace_mars_write_halves(write_halves),
        .trace_mars_write_data(write_data), .trace_mars_pass_done(pass_done),
        .trace_mars_store_macros(store_macros), .trace_mars_store_addr(store_addr),
        .trace_mars_store_mask(store_mask), .trace_mars_store_data(store_data),
        .trace_mars_clock(clock), .*
    );

    axi_memory #(.DATA_WIDTH(WEIGHT_BUS), .PROGRAM_BYTES(1 << 25)) memory (.*);

    mars_monitor #(.MACROS(MACROS)) monitor (.*);
endmodule
