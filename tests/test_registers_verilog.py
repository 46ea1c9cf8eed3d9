# amaranth: UnusedElaboratable=no
import json
from dataclasses import asdict

import pytest
from amaranth.back import verilog

from firmware_models.registers import table
from rtl.registers import Registers
from sim.runner import run_bench


@pytest.mark.parametrize("learning, rules", [
    (False, ("np",)), (True, ("np",)), (True, ("es", "np"))])
def test_random_traffic(tmp_path, cocotb_run, learning, rules):
    (tmp_path / "registers.v").write_text(
        verilog.convert(Registers(learning, rules), name="registers", emit_src=False))
    manifest = tmp_path / "registers.json"
    manifest.write_text(json.dumps({"top": "registers", "verilog": "registers.v",
                                    "learning": learning,
                                    "registers": [asdict(r) for r in table(learning, rules)]}))
    assert run_bench(manifest, "sim.registers", **cocotb_run) == 3
