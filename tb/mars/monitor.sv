// A file of everything that leaves post-processing.
// +mars_trace=FILE: records of 26 words: kind, the time in ns, its lower 32 bit, then what
// `tb.mars.records` says.

module mars_monitor #(parameter int MACROS = 8) (
    input clk, value_valid, write, pass_done,
    input [511:0] values,
    input [255:0] membranes,
    input [7:0] write_row,
    input [15:0] write_offset,
    input [3:0] write_halves,
    input [127:0] write_data,
    input [31:0] clock,
    input [MACROS-1:0] store_macros,
    input [15:0] store_addr, store_mask,
    input [128*MACROS-1:0] store_data,
    input mem_write,  // a beat that the memory takes, at which address
    input [31:0] mem_addr,
    input [511:0] mem_data,
    input [63:0] mem_strb
);
    string path;
    int file = 0;
    initial if ($value$plusargs("mars_trace=%s", path) != 0) file = $fopen(path, "wb");
    always @(posedge clk)
        if (file != 0) begin
            if (value_valid) $fwrite(file, "%u", {membranes, values, 32'($time), 32'd0});
            if (write)
                $fwrite(file, "%u", {544'd0, write_data, 28'd0, write_halves, 16'd0, write_offset,
                    24'd0, write_row, 32'($time), 32'd1});
            for (int macro = 0; macro < MACROS; macro++)
                if (store_macros[macro])
                    $fwrite(file, "%u", {544'd0, store_data[128*macro +: 128], 16'd0, store_mask,
                        16'd0, store_addr, macro, 32'($time), 32'd3});
            if (mem_write)
                $fwrite(file, "%u", {160'd0, mem_data, mem_strb, mem_addr, 32'($time), 32'd4});
            if (pass_done) begin
                $fwrite(file, "%u", {736'd0, clock, 32'($time), 32'd2});
                $fflush(file);
            end
        end
endmodule
