// Writes what retires from the chip to the file that +trace_file names, one record per event, all
// of the same size so that a reader needs no parser. In C++ speed, as a bench in Python could not.
// Word 0: kind [7:0], population [15:8], group [31:16]. Word 1: the time in ns, its lower 32 bit.
// The rest: see tb/trace_records.py.

module trace_file;
    integer handle = 0;
    string path;
    initial if ($value$plusargs("trace_file=%s", path) != 0) handle = $fopen(path, "wb");
endmodule

module retirement_monitor #(parameter int POPULATION = 0, L = 4, WORDS = 8) (
    input clk, valid, saturated,
    input [15:0] group,
    input [8*L-1:0] v,
    input [16*L-1:0] i_syn,
    input [8*L-1:0] noise,
    input [L-1:0] spike
);
    localparam int PAD = 32*(WORDS-2) - 33*L - 1;
    wire [7:0] kind = 0;
    wire [7:0] population = POPULATION[7:0];
    always @(posedge clk)
        if (valid && trace_file.handle != 0)
            $fwrite(trace_file.handle, "%u", {{PAD{1'b0}}, saturated, spike, noise, i_syn, v,
                32'($time), group, population, kind});
endmodule

module commit_monitor #(parameter int WORDS = 8) (
    input clk, commit,
    input [31:0] step_clocks, stall_clocks
);
    always @(posedge clk)
        if (commit && trace_file.handle != 0) begin
            $fwrite(trace_file.handle, "%u",
                {{(32*(WORDS-4)){1'b0}}, stall_clocks, step_clocks, 32'($time), 32'd1});
            $fflush(trace_file.handle);
        end
endmodule

module spike_monitor #(parameter int WORDS = 8) (
    input clk, tvalid, tready, tlast,
    input [63:0] tdata
);
    always @(posedge clk)
        if (tvalid && tready && trace_file.handle != 0) begin
            $fwrite(trace_file.handle, "%u",
                {{(32*(WORDS-4)-1){1'b0}}, tlast, tdata, 32'($time), 32'd2});
            if (tlast) $fflush(trace_file.handle);
        end
endmodule
