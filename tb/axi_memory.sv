// AXI4 slave with the contents of two files, and room for maps that can be written: memory for whole
// frames at the simulator's speed.
//
// A burst that is requested in clock a has its first beat in clock a + latency, or right behind the
// last beat of the burst before; the others follow clock by clock (model.mars.memory.LineSource).
//
// A burst whose last beat is written in clock a is answered in clock a + latency, or later by as many
// clocks as answers before it wait (LineSource.store).
//
// +program=FILE +program_base=HEX, +input=FILE +input_base=HEX: contents and byte addresses; files
//     are read at the start and again with `reload`, and may come to be or grow in between
// +scratch_base=HEX: byte address of what can be written, which is 0 at the start and after `reload`
// +latency=CLOCKS (1 or more)
// +error_addr=HEX: the beat with this byte answers SLVERR
// +write_error_addr=HEX: the burst that writes this byte's beat is answered with SLVERR
// +pause=PERCENT: of the clocks without ARREADY, AWREADY or WREADY, and of those in which no beat or
//     answer begins to be valid
// +arrivals=FILE: the clock of every beat, counted from the simulator's first one: 32 bit each
//
// What lies in no file answers DECERR. A request that AXI4 or this memory does not allow is fatal.

module axi_memory #(
    parameter int DATA_WIDTH = 512,
    parameter int PROGRAM_BYTES = 1 << 24,
    parameter int INPUT_BYTES = 1 << 20,
    parameter int SCRATCH_BYTES = 1 << 22
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
    input rready,
    input awid,
    input [31:0] awaddr,
    input [7:0] awlen,
    input [2:0] awsize,
    input [1:0] awburst,
    input awvalid,
    output reg awready,
    input [DATA_WIDTH-1:0] wdata,
    input [DATA_WIDTH/8-1:0] wstrb,
    input wlast,
    input wvalid,
    output wready,
    output reg bid,
    output reg [1:0] bresp,
    output reg bvalid,
    input bready
);
    localparam int BYTES = DATA_WIDTH / 8;
    localparam int SIZE = $clog2(BYTES);
    localparam int QUEUE = 1024;
    localparam int PROGRAM_WORDS = PROGRAM_BYTES / BYTES, INPUT_WORDS = INPUT_BYTES / BYTES;
    localparam int SCRATCH_WORDS = SCRATCH_BYTES / BYTES;
    localparam bit [1:0] OKAY = 0, SLVERR = 2, DECERR = 3, INCR = 1;

    reg [DATA_WIDTH-1:0] program_words [0:PROGRAM_WORDS-1];
    reg [DATA_WIDTH-1:0] input_words [0:INPUT_WORDS-1];
    reg [DATA_WIDTH-1:0] scratch_words [0:SCRATCH_WORDS-1];
    int n_program_words = 0, n_input_words = 0, n_scratch_words = 0;
    bit [31:0] program_base = 0, input_base = 0, scratch_base = 0, error_addr = 0;
    bit [31:0] write_error_addr = 0;
    int latency = 1, pause = 0, arrivals = 0;
    bit has_error, has_write_error, has_scratch, found;
    string program_path = "", input_path = "", arrivals_path;

    function automatic [DATA_WIDTH-1:0] swapped(input bit [DATA_WIDTH-1:0] word);
        for (int k = 0; k < BYTES; k++) swapped[8*k +: 8] = word[8*(BYTES-1-k) +: 8];
    endfunction

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
        for (int k = 0; k < n_program_words; k++) program_words[k] = swapped(program_words[k]);
        for (int k = 0; k < n_input_words; k++) input_words[k] = swapped(input_words[k]);
        for (int k = 0; k < n_scratch_words; k++) scratch_words[k] = 0;
        n_scratch_words = 0;
    endtask

    initial begin
        found = $value$plusargs("program=%s", program_path);
        found = $value$plusargs("input=%s", input_path);
        found = $value$plusargs("program_base=%h", program_base);
        found = $value$plusargs("input_base=%h", input_base);
        found = $value$plusargs("latency=%d", latency);
        found = $value$plusargs("pause=%d", pause);
        has_error = $value$plusargs("error_addr=%h", error_addr) != 0;
        has_write_error = $value$plusargs("write_error_addr=%h", write_error_addr) != 0;
        has_scratch = $value$plusargs("scratch_base=%h", scratch_base) != 0;
        n_scratch_words = SCRATCH_WORDS;
        if ($value$plusargs("arrivals=%s", arrivals_path) != 0)
            arrivals = $fopen(arrivals_path, "wb");
        if (latency < 1) $fatal(1, "latency must be 1 or more, not %0d", latency);
        load;
    end

    function automatic bit pauses(input int percent);
        pauses = percent != 0 && int'($urandom_range(99)) < percent;
    endfunction

    // Bursts that wait for their beats, in order; counters wrap around the queue.
    reg [31:0] queue_addr [0:QUEUE-1], queue_due [0:QUEUE-1];
    reg [8:0] queue_beats [0:QUEUE-1];
    reg queue_id [0:QUEUE-1];
    bit [9:0] head = 0, tail = 0;
    bit [31:0] clock = 0, addr, program_word, input_word, scratch_word;
    // Bursts that are written, and answers that wait, likewise.
    reg [31:0] w_queue_addr [0:QUEUE-1], answer_due [0:QUEUE-1];
    reg [8:0] w_queue_beats [0:QUEUE-1];
    reg w_queue_id [0:QUEUE-1], answer_id [0:QUEUE-1];
    reg [1:0] answer_resp [0:QUEUE-1];
    bit [9:0] w_head = 0, w_tail = 0, answer_head = 0, answer_tail = 0;
    bit [1:0] written_resp = OKAY;
    bit w_open = 1;

    initial {arready, rvalid, awready, bvalid} = 4'b1010;

    // Where the beat under way is written; its request may come with it.
    wire [31:0] w_addr = w_head != w_tail ? w_queue_addr[w_head] : awaddr;
    assign wready = w_open && (w_head != w_tail || awvalid && awready);

    function automatic bit allowed(input bit [31:0] a, input bit [7:0] len, input bit [2:0] size,
        input bit [1:0] burst);
        allowed = burst == INCR && int'(size) == SIZE && a % BYTES == 0
            && (a & 4095) + (32'(len) + 1) * BYTES <= 4096;
    endfunction

    task automatic write;
        bit [31:0] to, word;
        if (awvalid && awready) begin
            if (!allowed(awaddr, awlen, awsize, awburst) || w_tail + 10'd1 == w_head)
                $fatal(1, "not allowed: AWADDR %h AWLEN %0d AWSIZE %0d AWBURST %0d, %0d waiting",
                    awaddr, awlen, awsize, awburst, w_tail - w_head);
            w_queue_addr[w_tail] = awaddr;
            w_queue_beats[w_tail] = 9'(awlen) + 1;
            w_queue_id[w_tail] = awid;
            w_tail += 1;
        end
        awready <= !pauses(pause);
        if (wvalid && wready) begin
            to = w_queue_addr[w_head];
            word = (to - scratch_base) >> SIZE;
            if (wlast != (w_queue_beats[w_head] == 1))
                $fatal(1, "not allowed: WLAST %0d, %0d beats left", wlast, w_queue_beats[w_head]);
            if (has_scratch && to >= scratch_base && word < SCRATCH_WORDS) begin
                for (int k = 0; k < BYTES; k++)
                    if (wstrb[k]) scratch_words[word][8*k +: 8] = wdata[8*k +: 8];
                if (int'(word) >= n_scratch_words) n_scratch_words = int'(word) + 1;
            end else written_resp = DECERR;
            if (has_write_error && to == (write_error_addr & ~(BYTES - 1))) written_resp = SLVERR;
            w_queue_addr[w_head] = to + BYTES;
            w_queue_beats[w_head] -= 1;
            if (w_queue_beats[w_head] == 0) begin
                answer_due[answer_tail] = clock + latency;
                answer_resp[answer_tail] = written_resp;
                answer_id[answer_tail] = w_queue_id[w_head];
                answer_tail += 1;
                written_resp = OKAY;
                w_head += 1;
            end
        end
        w_open <= !pauses(pause);
        if (!bvalid || bready) begin
            if (answer_head != answer_tail && int'(clock + 1 - answer_due[answer_head]) >= 0
                && !pauses(pause)) begin
                bresp <= answer_resp[answer_head];
                bid <= answer_id[answer_head];
                bvalid <= 1;
                answer_head += 1;
            end else bvalid <= 0;
        end
    endtask

    always @(posedge clk) begin
        if (reload) load;
        if (rvalid && rready && arrivals != 0) begin
            $fwrite(arrivals, "%u", clock);
            if (rlast) $fflush(arrivals);
        end
        if (rst) begin
            head = tail;
            w_head = w_tail;
            answer_head = answer_tail;
            written_resp = OKAY;
            {arready, awready, w_open} <= 3'b111;
            {rvalid, bvalid} <= 0;
        end else begin
            if (arvalid && arready) begin
                if (!allowed(araddr, arlen, arsize, arburst) || tail + 10'd1 == head)
                    $fatal(1, "not allowed: ARADDR %h ARLEN %0d ARSIZE %0d ARBURST %0d, %0d waiting",
                        araddr, arlen, arsize, arburst, tail - head);
                queue_addr[tail] = araddr;
                queue_beats[tail] = 9'(arlen) + 1;
                queue_due[tail] = clock + latency;
                queue_id[tail] = arid;
                tail += 1;
            end
            arready <= !pauses(pause);
            if (!rvalid || rready) begin
                // Decided for the clock that begins with this edge.
                if (head != tail && int'(clock + 1 - queue_due[head]) >= 0 && !pauses(pause)) begin
                    addr = queue_addr[head];
                    program_word = (addr - program_base) >> SIZE;
                    input_word = (addr - input_base) >> SIZE;
                    scratch_word = (addr - scratch_base) >> SIZE;
                    if (addr >= program_base && program_word < n_program_words) begin
                        rdata <= program_words[program_word];
                        rresp <= OKAY;
                    end else if (addr >= input_base && input_word < n_input_words) begin
                        rdata <= input_words[input_word];
                        rresp <= OKAY;
                    end else if (has_scratch && addr >= scratch_base
                        && scratch_word < SCRATCH_WORDS) begin
                        rdata <= scratch_words[scratch_word];
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
            write;
        end
        clock += 1;
    end
endmodule
