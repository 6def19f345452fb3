"""MARS behind the decoder of the chip: the accelerator and its registers."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from hw.bus.axi4 import AXI4ReadSignature
from hw.bus.host_bus import HostBusSignature
from hw.bus.registers import RegisterBank
from hw.mars.accelerator import (
    FEATURE_STRIDE,
    Accelerator,
    ResultSignature,
    TraceSignature,
)
from model.mars.early_exit import TABLES
from model.mars.registers import register_map


class MarsProcessor(Component):
    """Everything of MARS behind the decoder of the chip.

    Parameters
    ----------
    config : MarsConfig
    trace : bool
        Add the trace ports.
    bridged : bool
        Add the port at which results are taken inside of the chip.

    Attributes
    ----------
    regions : list of (int, int)
        First byte address and size of what each of `targets` answers.
    pins : dict
        Those of the members that are ports of the chip.

    Members
    -------
    targets : Array of In(HostBusSignature())
        Registers, tables and feature memories (model/mars/registers.rdl).
    hold : Out(1)
        The request for a table or a feature memory waits for the end of the frame.
    irq : Out(1)
        A frame has ended, if enabled.
    results : In(ResultSignature()), if asked for
    m_axi_weights, trace_mars :
        As `hw.top.Kenyon`.
    """

    def __init__(self, config, *, trace=False, bridged=False):
        self.config = config
        self.trace = trace
        self.bridged = bridged
        names = register_map(config)
        self.registers = list(names.registers.values())
        first, last = self.registers[0].address, self.registers[-1].address
        self.regions = [
            (first, last + 4 - first),
            (names["exit_tables"], 4 * TABLES),
            (names["features[0]"], config.n_macros * FEATURE_STRIDE),
        ]
        self.pins = {"m_axi_weights": Out(AXI4ReadSignature(config.weight_bus))}
        if trace:
            self.pins["trace_mars"] = Out(TraceSignature(config.n_macros))
        super().__init__(
            {
                "targets": In(HostBusSignature()).array(len(self.regions)),
                "hold": Out(1),
                "irq": Out(1),
                **({"results": In(ResultSignature())} if bridged else {}),
                **self.pins,
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.accelerator = accelerator = Accelerator(
            self.config, trace=self.trace, bridged=self.bridged
        )
        m.submodules.registers = bank = RegisterBank(self.registers, self.registers[0].address)
        registers, tables, features = self.targets
        connect(m, flipped(registers), bank.bus)
        connect(m, flipped(tables), accelerator.table_bus)
        connect(m, flipped(features), accelerator.feature_bus)
        connect(m, flipped(self.m_axi_weights), accelerator.axi)
        if self.trace:
            connect(m, flipped(self.trace_mars), accelerator.trace)

        running, done, dropped = self._results(m, accelerator, bank)
        below = Const(0, 32 - len(bank.mars_INPUT_BASE_value))
        m.d.comb += [
            # A request behind the start finds `running` set: the bridge takes it a clock later.
            self.hold.eq((features.request | tables.request) & running),
            self.irq.eq(bank.mars_STATUS_done & bank.mars_CONTROL_irq_enable),
            accelerator.start.eq(bank.mars_CONTROL_start & ~running),
            accelerator.abort.eq(bank.mars_CONTROL_abort & accelerator.running),
            accelerator.input_base.eq(Cat(below, bank.mars_INPUT_BASE_value)),
            accelerator.input_lines.eq(bank.mars_INPUT_LINES_value),
            accelerator.program_base.eq(Cat(below, bank.mars_PROGRAM_BASE_value)),
            accelerator.program_lines.eq(bank.mars_PROGRAM_LINES_value),
            accelerator.first_step.eq(bank.mars_TIME_first),
            accelerator.n_steps.eq(bank.mars_TIME_steps),
            accelerator.chunk.eq(bank.mars_TIME_chunk),
            accelerator.input_stride.eq(Cat(below, bank.mars_INPUT_STRIDE_value)),
            accelerator.exits.eq(bank.mars_EXIT_enable),
            accelerator.exit_settings.is_entropy.eq(bank.mars_EXIT_entropy),
            accelerator.exit_settings.block_log2.eq(bank.mars_EXIT_block_log2),
            accelerator.exit_settings.n_classes.eq(bank.mars_EXIT_classes),
            accelerator.exit_settings.base.eq(bank.mars_EXIT_LOGITS_value),
            accelerator.exit_settings.limit.eq(bank.mars_EXIT_LIMIT_value),
            bank.mars_STEPS_TAKEN_value_now.eq(accelerator.steps),
            bank.mars_STATUS_running_now.eq(running),
            bank.mars_STATUS_done_set.eq(done),
            bank.mars_STATUS_bus_error_set.eq(accelerator.bus_error),
            bank.mars_STATUS_aborted_set.eq(accelerator.aborted | dropped),
            bank.mars_FRAME_CLOCKS_value_now.eq(accelerator.frame_clocks),
            bank.mars_WEIGHT_STALLS_value_now.eq(accelerator.weight_stalls),
            bank.mars_DRAIN_STALLS_value_now.eq(accelerator.drain_stalls),
            bank.mars_LAYER_STALLS_value_now.eq(accelerator.layer_stalls),
        ]
        return m

    def _results(self, m, accelerator, bank):
        """Whether a frame runs or its result waits, ends, and is given up."""
        if not self.bridged:
            return accelerator.running, accelerator.done, Const(0, 1)
        results = self.results
        ended, done = Signal(), Signal()
        m.d.comb += [
            ended.eq(accelerator.done & ~accelerator.bus_error & ~accelerator.aborted),
            # The host sees the end of the frame when its result is taken.
            done.eq(
                (accelerator.done & ~(ended & results.takes)) | results.taken | results.dropped
            ),
            results.ended.eq(ended),
            results.abort.eq(bank.mars_CONTROL_abort),
            accelerator.result_read.eq(results.read),
            accelerator.result_is_logit.eq(results.is_logit),
            accelerator.result_addr.eq(results.addr),
            results.data.eq(accelerator.result_data),
            results.logit.eq(accelerator.result_logit),
        ]
        return accelerator.running | results.waits, done, results.dropped
