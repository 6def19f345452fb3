// The same Verilator model without cocotb: what a bare loop of clock edges reaches.
// Usage: bare_loop SCRIPT; the script holds pairs of 32-bit words, address and data, for the
// AXI4-Lite port; the last pair starts a run with its interrupt enabled.
// Prints the clocks from there to the interrupt and the seconds that they took.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>

#include "Vtop.h"
#include "verilated.h"

static Vtop* top;

static void clock_edge_pair() {
    top->clk = 1;
    top->eval();
    top->clk = 0;
    top->eval();
}

static void write_word(uint32_t address, uint32_t data) {
    top->s_axil_awaddr = address;
    top->s_axil_wdata = data;
    top->s_axil_awvalid = top->s_axil_wvalid = 1;
    top->eval();
    while (!top->s_axil_awready) clock_edge_pair();
    clock_edge_pair();
    top->s_axil_awvalid = top->s_axil_wvalid = 0;
}

int main(int argc, char** argv) {
    if (argc != 2) return 2;
    VerilatedContext context;
    context.commandArgs(argc, argv);
    top = new Vtop{&context};
    top->s_axil_wstrb = 0xF;
    top->s_axil_bready = top->s_axil_rready = top->m_axis_spikes_tready = 1;
    top->rst = 1;
    clock_edge_pair();
    clock_edge_pair();
    top->rst = 0;

    std::ifstream script(argv[1], std::ios::binary);
    uint32_t pair[2];
    while (script.read(reinterpret_cast<char*>(pair), sizeof pair)) write_word(pair[0], pair[1]);

    const auto begin = std::chrono::steady_clock::now();
    uint64_t clocks = 0;
    for (; !top->irq; ++clocks) clock_edge_pair();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
    std::printf("%llu %.9f\n", static_cast<unsigned long long>(clocks), elapsed.count());
    delete top;
    return 0;
}
