# amaranth: UnusedElaboratable=no
import json
from dataclasses import asdict

import pytest
from amaranth.back import verilog

from firmware_models.registers import table
from rtl.registers import Registers
from sim.runner import run_bench

BUILD = 0x89ABCDEF


@pytest.mark.parametrize("learning, rules, options", [
    (False, ("np",), ()), (True, ("np",), ()), (True, ("es", "np"), ()),
    (True, ("es", "np"), ("load", "snapshot"))])
def test_random_traffic(tmp_path, cocotb_run, learning, rules, options):
    (tmp_path / "registers.v").write_text(
        verilog.convert(Registers(learning, rules, options, BUILD), name="registers",
                        emit_src=False))
    manifest = tmp_path / "registers.json"
    manifest.write_text(json.dumps({"top": "registers", "verilog": "registers.v",
                                    "learning": learning,
                                    "registers": [asdict(r) for r in
                                                  table(learning, rules, options, BUILD)]}))
    assert run_bench(manifest, "sim.registers", **cocotb_run) == 3
