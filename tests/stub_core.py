# amaranth: UnusedElaboratable=no
"""A core without a network: the ports of a real one, answers that are known by hand.

Tests of the simulation itself use it, so that they do not depend on the core that they test with.
"""
import json
from dataclasses import asdict
from pathlib import Path

from amaranth import *
from amaranth.back import verilog
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from firmware_models.formats import Fixed
from firmware_models.registers import table
from rtl.registers import Registers

OPTIONS = ("rank",)
BEATS, CLASSES, WAIT = 3, 4, 5          # 12 features of 8 bits; cycles that a window read takes
FAULTS = ("change", "extra", "silent", "tlast")


class StubCore(wiring.Component):
    """Sums beats: logit c is (sum of the beats) * (1 - c), the prediction its low 2 bits.

    Packets of another length than 3 beats, or with a label above 3, are dropped and counted.
    A learn bit counts 2 passes, 1 update and 1 seed. `window_data` is the bits of `window`,
    negated.
    `fault`, one of `FAULTS`, breaks a rule of the buses on purpose.
    """

    def __init__(self, fault: str | None = None):
        self.fault = fault
        self.registers = Registers(True, ("es",), OPTIONS)
        axil = {f"s_{name}": member for name, member in self.registers.signature.members.items()
                if name.startswith("axil_")}
        super().__init__(axil | {
            "s_axil_awprot": In(3), "s_axil_arprot": In(3),
            "s_axis_tdata": In(32), "s_axis_tuser": In(16), "s_axis_tvalid": In(1),
            "s_axis_tready": Out(1), "s_axis_tlast": In(1),
            "m_axis_tdata": Out(32), "m_axis_tvalid": Out(1), "m_axis_tready": In(1),
            "m_axis_tlast": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.registers = regs = self.registers
        for name, member in regs.signature.members.items():
            if name.startswith("axil_"):
                ours, inner = getattr(self, f"s_{name}"), getattr(regs, name)
                m.d.comb += inner.eq(ours) if member.flow == In else ours.eq(inner)

        total = Signal(32)
        beat = Signal(8)
        index = Signal(range(CLASSES + 1))
        good = Signal()
        learn = self.s_axis_tuser[8] & regs.control_learn
        m.d.comb += good.eq((beat == BEATS - 1) & (self.s_axis_tuser[:8] < CLASSES))
        with m.FSM():
            with m.State("RECEIVE"):
                m.d.comb += self.s_axis_tready.eq(1)
                with m.If(self.s_axis_tvalid):
                    m.d.sync += [total.eq(Mux(beat == 0, 0, total) + self.s_axis_tdata),
                                 beat.eq(beat + (beat != 255))]
                    with m.If(self.s_axis_tlast):
                        m.d.sync += [beat.eq(0), index.eq(0)]
                        with m.If(good):
                            m.d.sync += [regs.samples.eq(regs.samples + 1),
                                         regs.passes.eq(regs.passes + 1 + 2 * learn),
                                         regs.updates.eq(regs.updates + learn),
                                         regs.next_seed.eq(regs.next_seed + learn),
                                         regs.loss.eq(self.s_axis_tuser[:8])]
                            m.next = "HANG" if self.fault == "silent" else "ANSWER"
                        with m.Else():
                            m.d.sync += regs.dropped.eq(regs.dropped + 1)
            with m.State("ANSWER"):
                last = index == Mux(regs.control_logits, CLASSES, 0)
                m.d.comb += [self.m_axis_tvalid.eq(1),
                             self.m_axis_tlast.eq(last if self.fault != "tlast" else 1),
                             self.m_axis_tdata.eq(Mux(index == 0, total[:2],
                                                      total * (2 - index)))]
                if self.fault == "change":
                    m.d.sync += total.eq(total + ~self.m_axis_tready)
                with m.If(self.m_axis_tready):
                    m.d.sync += index.eq(index + 1)
                    with m.If(last):
                        m.next = "EXTRA" if self.fault == "extra" else "RECEIVE"
            with m.State("EXTRA"):
                m.d.comb += [self.m_axis_tvalid.eq(1), self.m_axis_tlast.eq(1)]
                with m.If(self.m_axis_tready):
                    m.next = "RECEIVE"
            with m.State("HANG"):
                pass

        with m.If(regs.seed_write):
            m.d.sync += regs.next_seed.eq(regs.seed)
        wait = Signal(range(WAIT + 1))
        m.d.comb += [regs.window_ready.eq(wait == WAIT),
                     regs.window_data.eq(-Cat(regs.window_word, regs.window_lane,
                                              regs.window_space))]
        with m.If(regs.window_request):
            m.d.sync += wait.eq(Mux(regs.window_ready, 0, wait + 1))
        return m


def write_stub(folder: Path, fault: str | None = None) -> Path:
    """``core.v`` and ``manifest.json`` of a stub core in `folder`; the path of the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "core.v").write_text(verilog.convert(StubCore(fault), name="core", emit_src=False))
    stage = {"name": "sums", "n_in": 4 * BEATS, "n_out": CLASSES, "reuse_factor": 6, "lanes": 8,
             "drain_words": 2, "drain_lanes": 2, "trainable": True,
             "weight": asdict(Fixed(8, 6)), "bias": asdict(Fixed(8, 6)),
             "master_width": 12, "bias_master_width": 12}
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({
        "top": "core", "verilog": "core.v", "learning": True, "rules": ["es"],
        "options": list(OPTIONS),
        "residual": 4, "max_pairs": 8,
        "network": {"name": "stub", "input": asdict(Fixed(8, 8, signed=False)), "layers": []},
        "input": {"element_bits": 8, "elements_per_beat": 4, "beats": BEATS},
        "stages": [stage], "registers": [asdict(r) for r in table(True, ("es",), OPTIONS)]}))
    return manifest
