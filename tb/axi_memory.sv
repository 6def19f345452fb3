// AXI4 read slave with the contents of two files: memory for whole frames at the simulator's speed.
//
// A burst that is requested in clock a has its first beat in clock a + latency, or right behind the
// last beat of the burst before; the others follow clock by clock (model.mars.memory.LineSource).
//
// +program=FILE +program_base=HEX, +input=FILE +input_base=HEX: contents and byte addresses; files
//     are read at the start and again with `reload`, and may come to be or grow in between
// +latency=CLOCKS (1 or more)
// +error_addr=HEX: the beat with this byte answers SLVERR
// +pause=PERCENT: of the clocks without ARREADY, and of those in which no beat begins to be valid
// +arrivals=FILE: the clock of every beat, counted from the simulator's first one: 32 bit each
//
// What lies in no file answers DECERR. A request that AXI4 or this memory does not allow is fatal.

module axi_memory #(
    parameter int DATA_WIDTH = 512,
    parameter int PROGRAM_BYTES = 1 << 24,
    parameter int INPUT_BYTES = 1 << 20
) (
    input clk, rst, reload,
    input arid,
    input [31:0] araddr,
    input [7:0] arlen,
    input [2:0] arsize,
    input [1:0] arburst,
    input arvalid,
    output reg arready,
    output reg rid,
    output reg [DATA_WIDTH-1:0] rdata,
    output reg [1:0] rresp,
    output reg rlast,
    output reg rvalid,
    input rready
);
    localparam int BYTES = DATA_WIDTH / 8;
    localparam int SIZE = $clog2(BYTES);
    localparam int QUEUE = 1024;
    localparam int PROGRAM_WORDS = PROGRAM_BYTES / BYTES, INPUT_WORDS = INPUT_BYTES / BYTES;
    localparam bit [1:0] OKAY = 0, SLVERR = 2, DECERR = 3, INCR = 1;

    reg [DATA_WIDTH-1:0] program_words [0:PROGRAM_WORDS-1];
    reg [DATA_WIDTH-1:0] input_words [0:INPUT_WORDS-1];
    int n_program_words = 0, n_input_words = 0;
    bit [31:0] program_base = 0, input_base = 0, error_addr = 0;
    int latency = 1, pause = 0, arrivals = 0;
    bit has_error;
    string program_path = "", input_path = "", arrivals_path;

    task automatic load;
        int file;
        n_program_words = 0;
        n_input_words = 0;
        file = program_path == "" ? 0 : $fopen(program_path, "rb");
        if (file != 0) begin
            n_program_words = $fread(program_words, file) / BYTES;
            if ($fgetc(file) != -1) $fatal(1, "%s is longer than PROGRAM_BYTES", program_path);
            $fclose(file);
        end
        file = input_path == "" ? 0 : $fopen(input_path, "rb");
        if (file != 0) begin
            n_input_words = $fread(input_words, file) / BYTES;
            if ($fgetc(file) != -1) $fatal(1, "%s is longer than INPUT_BYTES", input_path);
            $fclose(file);
        end
        // $fread puts the first byte on top, AXI4 wants it at the bottom.
        for (int k = 0; k < n_program_words; k++) program_words[k] = {<<8{program_words[k]}};
        for (int k = 0; k < n_input_words; k++) input_words[k] = {<<8{input_words[k]}};
    endtask

    initial begin
        void'($value$plusargs("program=%s", program_path));
        void'($value$plusargs("input=%s", input_path));
        void'($value$plusargs("program_base=%h", program_base));
        void'($value$plusargs("input_base=%h", input_base));
        void'($value$plusargs("latency=%d", latency));
        void'($value$plusargs("pause=%d", pause));
        has_error = $value$plusargs("error_addr=%h", error_addr) != 0;
        if ($value$plusargs("arrivals=%s", arrivals_path) != 0)
            arrivals = $fopen(arrivals_path, "wb");
        if (latency < 1) $fatal(1, "latency must be 1 or more, not %0d", latency);
        load;
    end

    function automatic bit pauses;
        return pause != 0 && int'($urandom_range(99)) < pause;
    endfunction

    // Bursts that wait for their beats, in order; counters wrap around the queue.
    bit [31:0] queue_addr [0:QUEUE-1], queue_due [0:QUEUE-1];
    bit [8:0] queue_beats [0:QUEUE-1];
    bit queue_id [0:QUEUE-1];
    bit [9:0] head = 0, tail = 0;
    bit [31:0] clock = 0, addr, program_word, input_word;

    initial {arready, rvalid} = 2'b10;

    always @(posedge clk) begin
        if (reload) load;
        if (rvalid && rready && arrivals != 0) begin
            $fwrite(arrivals, "%u", clock);
            if (rlast) $fflush(arrivals);
        end
        if (rst) begin
            head = tail;
            arready <= 1;
            rvalid <= 0;
        end else begin
            if (arvalid && arready) begin
                if (arburst != INCR || int'(arsize) != SIZE || araddr % BYTES != 0
                    || (araddr & 4095) + (32'(arlen) + 1) * BYTES > 4096 || tail + 10'd1 == head)
                    $fatal(1, "not allowed: ARADDR %h ARLEN %0d ARSIZE %0d ARBURST %0d, %0d waiting",
                        araddr, arlen, arsize, arburst, tail - head);
                queue_addr[tail] = araddr;
                queue_beats[tail] = 9'(arlen) + 1;
                queue_due[tail] = clock + latency;
                queue_id[tail] = arid;
                tail += 1;
            end
            arready <= !pauses();
            if (!rvalid || rready) begin
                // Decided for the clock that begins with this edge.
                if (head != tail && int'(clock + 1 - queue_due[head]) >= 0 && !pauses()) begin
                    addr = queue_addr[head];
                    program_word = (addr - program_base) >> SIZE;
                    input_word = (addr - input_base) >> SIZE;
                    if (addr >= program_base && program_word < n_program_words) begin
                        rdata <= program_words[program_word];
                        rresp <= OKAY;
                    end else if (addr >= input_base && input_word < n_input_words) begin
                        rdata <= input_words[input_word];
                        rresp <= OKAY;
                    end else begin
                        rdata <= 0;
                        rresp <= DECERR;
                    end
                    if (has_error && addr == (error_addr & ~(BYTES - 1))) rresp <= SLVERR;
                    rid <= queue_id[head];
                    rlast <= queue_beats[head] == 1;
                    rvalid <= 1;
                    queue_addr[head] = addr + BYTES;
                    queue_beats[head] -= 1;
                    if (queue_beats[head] == 0) head += 1;
                end else rvalid <= 0;
            end
        end
        clock += 1;
    end
endmodule
