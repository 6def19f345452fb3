// A chip with both halves, its weight memory, a receiver of spikes that is always ready, and files of
// what both halves do (tb/mars/monitor.sv, tb/trace_monitor.sv).

module joint_system (
    input clk, rst, reload,
    input [31:0] s_axil_awaddr, s_axil_wdata, s_axil_araddr,
    input [2:0] s_axil_awprot, s_axil_arprot,
    input [3:0] s_axil_wstrb,
    input s_axil_awvalid, s_axil_wvalid, s_axil_bready, s_axil_arvalid, s_axil_rready,
    output s_axil_awready, s_axil_wready, s_axil_bvalid, s_axil_arready, s_axil_rvalid,
    output [1:0] s_axil_bresp, s_axil_rresp,
    output [31:0] s_axil_rdata,
    output irq,
    output reg [31:0] elapsed
);
    // WIRES: the chip's other ports.
    assign m_axis_spikes_tready = 1;
    assign s_axis_events_tvalid = 0;
    assign s_axis_events_tdata = 0;
    assign s_axis_events_tlast = 0;

    kenyon chip (.*);

    axi_memory #(.DATA_WIDTH($bits(m_axi_weights_rdata)), .PROGRAM_BYTES(1 << 25)) memory (
        .clk, .rst, .reload,
        .arid(m_axi_weights_arid), .araddr(m_axi_weights_araddr), .arlen(m_axi_weights_arlen),
        .arsize(m_axi_weights_arsize), .arburst(m_axi_weights_arburst),
        .arvalid(m_axi_weights_arvalid), .arready(m_axi_weights_arready),
        .rid(m_axi_weights_rid), .rdata(m_axi_weights_rdata), .rresp(m_axi_weights_rresp),
        .rlast(m_axi_weights_rlast), .rvalid(m_axi_weights_rvalid), .rready(m_axi_weights_rready)
    );

    mars_monitor #(.MACROS($bits(trace_mars_store_macros))) monitor (
        .clk, .value_valid(trace_mars_value_valid), .values(trace_mars_values),
        .membranes(trace_mars_membranes), .write(trace_mars_write),
        .write_row(trace_mars_write_row), .write_offset(trace_mars_write_offset),
        .write_halves(trace_mars_write_halves), .write_data(trace_mars_write_data),
        .store_macros(trace_mars_store_macros), .store_addr(trace_mars_store_addr),
        .store_mask(trace_mars_store_mask), .store_data(trace_mars_store_data),
        .pass_done(trace_mars_pass_done), .clock(trace_mars_clock)
    );

    // Clocks from the start of a frame, two before its first request, to the interrupt.
    reg counting = 0;
    initial elapsed = 0;
    always @(posedge clk)
        if (irq) counting <= 0;
        else if (counting) elapsed <= elapsed + 1;
        else if (m_axi_weights_arvalid) begin
            counting <= 1;
            elapsed <= 3;
        end
endmodule
