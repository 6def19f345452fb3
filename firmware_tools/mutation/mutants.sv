// Says which mutant is alive, and ends simulations that a mutant keeps from ending.
// +mutant=K (0: none). +most_clocks=N: no limit without it.
// +clocks_file=FILE: clocks that passed are appended now and then, and `hung` at the limit.

module mutant_control (input clk, output reg [15:0] number);
    string path;
    int clocks, most_clocks, file;
    initial begin
        if ($value$plusargs("mutant=%d", number) == 0) number = 0;
        if ($value$plusargs("most_clocks=%d", most_clocks) == 0) most_clocks = 0;
        if ($value$plusargs("clocks_file=%s", path) != 0) file = $fopen(path, "a");
    end
    always @(posedge clk) begin
        clocks <= clocks + 1;
        if (file != 0 && clocks[11:0] == 0) begin
            $fwrite(file, "%0d\n", clocks);
            $fflush(file);
        end
        if (most_clocks != 0 && clocks == most_clocks) begin
            if (file != 0) begin
                $fwrite(file, "hung\n");
                $fflush(file);
            end
            $fatal(1, "no end after %0d clocks", clocks);
        end
    end
endmodule
