"""Planted bugs: each is a fault in a copy of the tree that a named test must find there.

The table of docs/verification.md is this list.
"""
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
COPIED = ("firmware_models", "rtl", "hwgen", "sim", "tests", "conftest.py", "pyproject.toml")


class Bug(NamedTuple):
    """Text `old` of `file`, found there once, becomes `new`; `test` fails then."""
    what: str
    file: str
    test: str
    old: str
    new: str

    @property
    def row(self) -> str:
        """Its line in the table."""
        return f"| `{self.file}` | {self.what} | `{self.test}` |"


BUGS = (
    # Mistakes that model and hardware would share: only values from outside can find them.
    Bug("half rounds down", "firmware_models/requantize.py",
        "tests/test_requantize.py::test_rounding_by_hand",
        "codes = codes + (1 << drop - 1)\n", "codes = codes + (1 << drop - 1) - 1\n"),
    Bug("another shift in the generator", "firmware_models/noise.py",
        "tests/test_noise.py::test_published_output",
        "NOISE_SHIFTS = (13, 17, 5)", "NOISE_SHIFTS = (13, 17, 6)"),
    Bug("seeds follow each other as states do", "firmware_models/noise.py",
        "tests/test_noise.py::test_bits_of_successive_probes_are_pairwise_independent",
        "SEED_SHIFTS = (9, 5, 14)", "SEED_SHIFTS = (13, 17, 5)"),
    Bug("logarithms cut off, not rounded", "firmware_models/loss.py",
        "tests/test_loss.py::test_logarithms_exactly", "tuple(round(256 *", "tuple(int(256 *"),
    Bug("rows and columns of the words swapped", "firmware_models/network.py",
        "tests/test_network.py::test_word_layout_by_hand",
        "weight_codes.reshape(*lead, self.lanes, self.reuse_factor), -1, -2)",
        "weight_codes.reshape(*lead, self.reuse_factor, self.lanes), -1, -1)"),
    Bug("fresh masters stand at the lower end", "firmware_models/weight_memory.py",
        "tests/test_weight_memory.py::test_masters_by_hand", "(1 << residual >> 1)", "0"),
    Bug("words and lanes swapped", "firmware_models/window_load.py",
        "tests/test_window_load.py::test_points_by_hand",
        "flat % self.words, flat // self.words", "flat // self.words, flat % self.words"),
    Bug("bias words not counted", "firmware_models/snapshot.py",
        "tests/test_snapshot.py::test_cycles_by_hand",
        "max(network.stages[i].dense.reuse_factor, network.stages[i].drain_words)",
        "network.stages[i].dense.reuse_factor"),
    Bug("rank counts larger differences", "firmware_models/rules/es.py",
        "tests/test_fitness.py::test_fitness_by_hand",
        "deltas[:, None] - deltas[None, :]", "deltas[None, :] - deltas[:, None]"),
    Bug("a mean of two pairs is shifted as one of four", "firmware_models/rules/es.py",
        "tests/test_fitness.py::test_scale_by_hand", "(len(deltas) - 1).bit_length()",
        "len(deltas).bit_length()"),
    Bug("a residual of eight is eight steps up", "firmware_models/rounding.py",
        "tests/test_rounding.py::test_by_hand", "np.int64) + HALF & ALL) - HALF",
        "np.int64) & ALL)"),
    Bug("a change at the threshold counts", "firmware_models/rules/es.py",
        "tests/test_vote.py::test_by_hand", "(np.abs(change) > threshold)",
        "(np.abs(change) >= threshold)"),
    Bug("an engine one cycle slower", "firmware_models/cycles.py",
        "tests/test_cycles.py::test_by_hand", "ENGINE_CYCLES = 7", "ENGINE_CYCLES = 8"),
    Bug("noise in the outputs' order, not the drained words'", "firmware_models/fast.py",
        "tests/test_fast.py::test_settings", "signs[word + words * lane]",
        "signs[word * lanes + lane]"),
    Bug("a tap of the serial generator moved", "firmware_models/noise.py",
        "tests/test_node_noise.py::test_serial_full_period",
        "SERIAL_TAPS = (31, 30, 29, 9)", "SERIAL_TAPS = (31, 30, 29, 10)"),
    Bug("halvings without end", "firmware_models/progress.py",
        "tests/test_progress.py::test_decay_by_hand", "min(decays + 1, DECAYS_MAX)", "decays + 1"),
    Bug("steps cut off, not rounded", "firmware_models/fused_update.py",
        "tests/test_fused_update.py::test_steps_by_hand",
        "* x + (1 << drop >> 1) >> drop", "* x >> drop"),
    Bug("guard looks at the wrong end", "firmware_models/fused_update.py",
        "tests/test_fused_update.py::test_guard_by_hand", "(c < 0) ^ (u < 0)", "(c > 0) ^ (u < 0)"),
    Bug("a node fires at the same magnitude both ways", "firmware_models/rules/node_probe.py",
        "tests/test_node_probe.py::test_coefficients_by_hand",
        "(errors ^ (errors >> 63)) >> unit", "np.abs(errors) >> unit"),
    Bug("update with the input of the sample after", "firmware_models/line_rate.py",
        "tests/test_line_rate.py::test_first_update_acts_two_samples_later",
        "self.inputs[index][0]", "self.inputs[index][1]"),
    Bug("inactive nodes take part", "firmware_models/line_rate.py",
        "tests/test_line_rate.py::test_probes_by_definition",
        "activations[index + 1] > 0 if", "activations[index + 1] >= 0 if"),
    Bug("the mask's bits lie below the sign's", "firmware_models/directions.py",
        "tests/test_directions.py::test_sparse_by_hand", "noise.beside(states, shift)",
        "noise.beside(states, -shift)"),
    Bug("the last update is replayed though it is torn", "firmware_models/journal.py",
        "tests/test_journal.py::test_replay_by_hand",
        "np.split(records, ends)[:len(ends)]", "np.split(records, ends)"),
    Bug("a decision comes into force at once", "firmware_models/drift.py",
        "tests/test_drift.py::test_enter_by_hand", "samples % PERIOD == DELAY",
        "samples % PERIOD == 0"),
    Bug("all pairs of a batch say what is up", "firmware_models/evolution.py",
        "tests/test_sharpness.py::test_pairs_at_a_neighbour",
        "int(np.sign(first[0]))",
        "int(np.sign(state.deltas[0] + first[0]))"),
    Bug("no wait for the first pair's losses", "firmware_models/cycles.py",
        "tests/test_cycles.py::test_by_hand",
        "offered = loss + 1", "offered = loss"),
    # Faults of the hardware.
    Bug("rounding constant flipped", "rtl/requantize.py",
        "tests/test_requantize.py::test_hardware_equals_model",
        "value = value + (1 << drop - 1)\n", "value = value + (1 << drop - 1) - 1\n"),
    Bug("half to even forgets the odd bit", "rtl/requantize.py",
        "tests/test_requantize.py::test_hardware_equals_model", " + (value >> drop)[0]", ""),
    Bug("first value beyond the range not clipped", "rtl/requantize.py",
        "tests/test_requantize.py::test_saturate_every_code",
        "wide[to.width - to.signed:-1]", "wide[to.width:-1]"),
    Bug("start rotations of the next generator", "rtl/noise.py",
        "tests/test_noise.py::test_hardware_replays",
        "START_ROTATIONS[generator - 1]", "START_ROTATIONS[generator]"),
    Bug("bias noise one step late", "rtl/noise.py", "tests/test_noise.py::test_hardware_replays",
        "Mux(self.step, xorshift(m, before, NOISE_SHIFTS), before)",
        "xorshift(m, before, NOISE_SHIFTS)"),
    Bug("lanes in falling order", "rtl/weight_rom.py",
        "tests/test_dense.py::test_weight_rom_layout_and_latency",
        "enumerate(row))", "enumerate(reversed(row)))"),
    Bug("noise seeds of pass and sweep swapped", "rtl/update_sweep.py",
        "tests/test_weight_memory.py::test_read_with_and_without_probe",
        "Mux(self.accumulate, self.seed, self.pass_seed)",
        "Mux(self.accumulate, self.pass_seed, self.seed)"),
    Bug("biases are masked", "rtl/directions.py",
        "tests/test_directions.py::test_unit_equals_model", "self.bias | (self.sparse ==",
        "(self.sparse =="),
    Bug("products of the next output's sign", "rtl/directions.py",
        "tests/test_directions.py::test_unit_equals_model", "rows[lane // per_word]",
        "rows[(lane // per_word + 1) % len(rows)]"),
    Bug("coefficients of smaller rows round down", "rtl/directions.py",
        "tests/test_directions.py::test_rows_of_all_values", "Mux(c[-1], (1 << shift) - 1, 0)",
        "0"),
    Bug("the static mask moves on with each pair", "rtl/update_sweep.py",
        "tests/test_directions.py::test_memory", "self.accumulate & self._first_pair()",
        "self.accumulate"),
    Bug("one word of a sweep skipped", "rtl/update_sweep.py",
        "tests/test_weight_memory.py::test_sweeps",
        "commit.eq(self.adding & last_pair & ~was_bias)",
        "commit.eq(self.adding & last_pair & ~was_bias & (self.word != 1))"),
    Bug("lost carry of a negative coefficient", "rtl/update_sweep.py",
        "tests/test_weight_memory.py::test_sweeps", "+ term + sign)", "+ term)"),
    Bug("counters at an end turn around", "rtl/momentum.py",
        "tests/test_momentum.py::test_unit_equals_model", "moves & ~at_end", "moves"),
    Bug("counters follow the next word", "rtl/momentum.py",
        "tests/test_momentum.py::test_unit_equals_model", "before = held.word_select(",
        "before = read.data.word_select("),
    Bug("counters next to an end count as at it", "rtl/momentum.py",
        "tests/test_momentum.py::test_signs_equal_model", " & (m[0] | second)", ""),
    Bug("counters of the sweep's next word", "rtl/update_sweep.py",
        "tests/test_momentum.py::test_memory", "counters.addr.eq(Mux(self.accumulate, word,",
        "counters.addr.eq(Mux(self.accumulate, word + 1,"),
    Bug("biases lean to counters", "rtl/directions.py",
        "tests/test_momentum.py::test_memory", "self.momentum & ~self.bias", "self.momentum"),
    Bug("noise of the next lane rounds", "rtl/rounding.py",
        "tests/test_rounding.py::test_unit_equals_model", "word[(lane + shift) % BITS]",
        "word[(lane + shift + 1) % BITS]"),
    Bug("rounded by the first pair's noise", "rtl/update_sweep.py",
        "tests/test_rounding.py::test_memory", "with m.If(self.adding & last_pair):",
        "with m.If(self.adding & first_pair):"),
    Bug("all of what earlier updates added counts", "rtl/update_sweep.py",
        "tests/test_rounding.py::test_memory", "Mux(own_first, v[:FRACTION].as_signed(), v)",
        "Mux(own_first, v, v)"),
    Bug("votes before rounding", "rtl/sweep_commit.py", "tests/test_rounding.py::test_memory",
        "zip(vote.v, v, strict=True)", "zip(vote.v, update.v, strict=True)"),
    Bug("pairs kept that a larger population overwrites", "rtl/pair_ring.py",
        "tests/test_pair_ring.py::test_unit_equals_model", "Mux(kept > room, room, kept)", "kept"),
    Bug("older pairs are replayed whatever the rounding", "rtl/controller.py",
        "tests/test_controller.py::test_replay_of_older_pairs",
        'Mux(is_kind(self.rounding, "replay"), -past.older, 0)', "-past.older"),
    Bug("the way to a neighbour leans nowhere", "rtl/weight_memory.py",
        "tests/test_momentum.py::test_memory", "neighbour.counters.eq(update.counters)",
        "neighbour.counters.eq(0)"),
    Bug("lost carry of a positive change", "rtl/vote.py",
        "tests/test_vote.py::test_unit_equals_model", " + ~negative)", ")"),
    Bug("clipping counted where nothing clips", "rtl/sweep_commit.py",
        "tests/test_weight_memory.py::test_sweeps", "above.any() & ~above.all()", "above.any()"),
    Bug("a minus pass adds the noise", "rtl/perturbation.py",
        "tests/test_weight_memory.py::test_read_with_and_without_probe",
        "Mux(bit ^ negative, minus, plus)", "Mux(bit, minus, plus)"),
    Bug("steps of eight bits for wider weights", "rtl/perturbation.py",
        "tests/test_neighbour.py::test_memory",
        "if below else (plus, minus)",
        "if below < 0 else (plus, minus)"),
    Bug("biases go up where weights go down", "rtl/neighbour.py",
        "tests/test_neighbour.py::test_unit_equals_model",
        "chain[self.bias_addr] ^ self.down)",
        "chain[self.bias_addr])"),
    Bug("the next sample starts at the neighbour", "rtl/sharpness.py",
        "tests/test_sharpness.py::test_unit",
        "with m.If(self.release):",
        "with m.If(self.release & ~self.down):"),
    Bug("a write goes to every lane", "rtl/weight_memory.py",
        "tests/test_window_load.py::test_lanes_of_a_memory", "Mux(lane == k, self.load_data",
        "Mux(1, self.load_data"),
    Bug("a write before the word was read", "rtl/window_load.py",
        "tests/test_window_load.py::test_unit", "self.waits & self.settled & ~self.ready",
        "self.waits & ~self.ready"),
    Bug("a part of a word written", "rtl/registers.py", "tests/test_registers.py::test_load",
        "self.axil_wstrb.all(), ", "self.axil_wstrb.any(), "),
    Bug("last word not copied", "rtl/snapshot.py", "tests/test_snapshot.py::test_unit",
        "self.addr == self.words - 1", "self.addr == self.words - 2"),
    Bug("short memories written around and around", "rtl/shadow_memory.py",
        "tests/test_snapshot.py::test_shadow_memory", "there_is.eq(self.addr < self.depth)",
        "there_is.eq(1)"),
    Bug("first word added to the pass before", "rtl/dense.py",
        "tests/test_dense.py::test_engine_equals_model",
        "Mux(first[2], 0, acc)", "Mux(first[1], 0, acc)"),
    Bug("last word missing from the sum", "rtl/dense.py",
        "tests/test_dense.py::test_engine_equals_model",
        "hold[j].eq(sum_j)", "hold[j].eq(acc)"),
    Bug("a cycle lost between passes", "rtl/dense.py",
        "tests/test_dense.py::test_engine_equals_model",
        "(~running | last_cycle) & self.room", "~running & self.room"),
    Bug("tag of the next pass", "rtl/dense.py", "tests/test_dense.py::test_engine_equals_model",
        "self.bias_tag.eq(mac_tag)", "self.bias_tag.eq(self.w_tag)"),
    Bug("a slot lost", "rtl/vector_buffer.py",
        "tests/test_vector_buffer.py::test_room_counts_every_slot",
        "reserved != self.slots", "reserved < self.slots - 1"),
    Bug("every element of a word written", "rtl/vector_buffer.py",
        "tests/test_vector_buffer.py::test_order_and_content",
        "write.en.eq(self.w_en)", "write.en.eq(self.w_en.any().replicate(self.lanes))"),
    Bug("bad label accepted", "rtl/sample_input.py",
        "tests/test_sample_input.py::test_only_good_packets_arrive",
        ">= self.network.n_classes", "> self.network.n_classes"),
    Bug("rest of a long packet taken for a sample", "rtl/sample_input.py",
        "tests/test_sample_input.py::test_only_good_packets_arrive",
        "skipping.eq(~self.tlast),", "skipping.eq(0),"),
    Bug("stalled word dropped", "rtl/readout.py", "tests/test_readout.py::test_packets",
        "with m.If(self.tvalid & self.tready):", "with m.If(self.tvalid):"),
    Bug("last of equal logits wins", "rtl/readout.py", "tests/test_readout.py::test_packets",
        "logit > best", "logit >= best"),
    Bug("one class missing from the sum", "rtl/loss.py",
        "tests/test_loss.py::test_unit_equals_model",
        "with m.If(valid[1]):", "with m.If(valid[1] & ~last[1]):"),
    Bug("largest logit of the pass before", "rtl/loss.py",
        "tests/test_loss.py::test_unit_equals_model", "(self.addr == 0) | (logit > best)",
        "logit > best"),
    Bug("logarithm of the sum cut off", "rtl/loss.py",
        "tests/test_loss.py::test_errors_equal_model",
        "log_sum.eq((logarithm + 8) >> 4)", "log_sum.eq(logarithm >> 4)"),
    Bug("no wait for the errors asked for", "rtl/loss.py",
        "tests/test_loss.py::test_errors_equal_model", "m.d.sync += wait.eq(1)",
        "m.d.sync += wait.eq(0)"),
    Bug("comparison flipped", "rtl/fitness.py", "tests/test_fitness.py::test_unit_equals_model",
        "with m.If(mine > other):", "with m.If(mine < other):"),
    Bug("last of equals is the best", "rtl/shaping.py",
        "tests/test_shaping.py::test_unit_equals_model", "magnitude > most", "magnitude >= most"),
    Bug("minus before plus", "rtl/controller.py", "tests/test_controller.py::test_schedule",
        "self.pass_tag.negative.eq(negative)", "self.pass_tag.negative.eq(~base & ~negative)"),
    Bug("replay takes the next probe's seed", "rtl/controller.py",
        "tests/test_controller.py::test_schedule",
        "self.sweep_seed.eq(seed_read.data)", "self.sweep_seed.eq(self.next_seed)"),
    Bug("reset forgets a torn update", "rtl/controller.py",
        "tests/test_controller.py::test_reset_during_an_update_is_remembered",
        "Signal(reset_less=True), Signal(reset_less=True)", "Signal(), Signal()"),
    Bug("one loss of the first pair is enough", "rtl/controller.py",
        "tests/test_controller.py::test_sharp",
        "sharpness.loss_valid.eq(delta_write.en)",
        "sharpness.loss_valid.eq(self.loss_valid & self.loss_probe)"),
    Bug("the amplitude decays below one step", "rtl/controller.py",
        "tests/test_controller.py::test_amplitude_decays",
        "Mux(self.decays < sigma, (sigma - self.decays)[:len(sigma)], 0)",
        "(sigma - self.decays)[:len(sigma)]"),
    Bug("record of the pair that was probed last", "rtl/controller.py",
        "tests/test_controller.py::test_records", "seed_read.addr.eq(fitness.w_pair)",
        "seed_read.addr.eq(probe)"),
    Bug("records by trainable layers, not by stages", "rtl/journal.py",
        "tests/test_journal.py::test_unit_equals_model", "self.r_data[LAYERS_LSB + stage]",
        "self.r_data[LAYERS_LSB + position]"),
    Bug("records without the settings of their update", "rtl/host_access.py",
        "tests/test_journal_verilog.py::test_replay_with_every_option",
        "getattr(journal, name).eq(getattr(weights, name))", "getattr(journal, name).eq(0)"),
    Bug("a restore goes unnoticed", "rtl/host_access.py",
        "tests/test_journal_verilog.py::test_weights_written_by_others",
        "snapshot.copy_restore if snapshot else Const(0)).any()", "Const(0)).any()"),
    Bug("a reset goes unnoticed", "rtl/journal.py", "tests/test_journal.py::test_reset",
        "Signal(reset_less=True), Signal(reset_less=True)", "Signal(), Signal()"),
    Bug("halvings wrap around", "rtl/progress.py",
        "tests/test_progress.py::test_unit_equals_model", "self.decays + (self.decays != 15)",
        "self.decays + 1"),
    Bug("decision by the average before the loss", "rtl/drift.py",
        "tests/test_drift.py::test_unit_equals_model", "with m.If(complete):",
        "with m.If(self.loss_valid & (counted == PERIOD - 1)):"),
    Bug("last word gets the next pass's coefficients", "rtl/fused_update.py",
        "tests/test_fused_update.py::test_unit_equals_model", "with m.If(self.started):",
        "with m.If(self.accepted):"),
    Bug("mean of the sample after", "rtl/fused_update.py",
        "tests/test_fused_update.py::test_unit_equals_model", "((older << MEAN_FRAC) - mean)",
        "((newer << MEAN_FRAC) - mean)"),
    Bug("bias codes in one slot", "rtl/fused_update.py",
        "tests/test_fused_update.py::test_unit_equals_model", "r_slot.eq(~r_slot)", "r_slot.eq(0)"),
    Bug("guard holds at one end only", "rtl/fused_commit.py",
        "tests/test_weight_memory.py::test_fused_passes", "edge & (negative ^ step[-1] ^ top[-1])",
        "edge & (negative ^ step[-1]) & ~top[-1]"),
    Bug("both samples in one slot", "rtl/node_noise.py",
        "tests/test_node_noise.py::test_unit_equals_model", "slot.eq(~slot)", "slot.eq(slot)"),
    Bug("rows follow the words, not the nodes", "rtl/node_noise.py",
        "tests/test_node_noise.py::test_unit_equals_model", "self.addr + words * lane",
        "self.addr * lanes + lane"),
    Bug("next sums while the last probe drains", "rtl/probe_drain.py",
        "tests/test_probe_drain.py::test_schedule", " | self.pending | self.draining & early",
        " | self.pending"),
    Bug("a drain without room", "rtl/probe_drain.py", "tests/test_probe_drain.py::test_schedule",
        "self.pending & self.may_start", "self.pending"),
    Bug("a loss at the limit is skipped", "rtl/node_probe.py",
        "tests/test_node_probe.py::test_unit_equals_model", "counts.eq(loss >= self.skip)",
        "counts.eq(loss > self.skip)"),
    Bug("rows count on through the layers", "rtl/node_probe.py",
        "tests/test_node_probe.py::test_unit_equals_model",
        "k.eq(Mux(walked.bit_select(its_layer, 1), k + 1, 0))",
        "k.eq(Mux(walked.any(), k + 1, 0))"),
    Bug("a dropped packet takes its turn", "rtl/sample_input.py",
        "tests/test_sample_input.py::test_stages_that_learn", "learns & ~drop & self.train.any()",
        "learns & self.train.any()"),
    Bug("dropped packets count", "rtl/sample_input.py",
        "tests/test_sample_input.py::test_stages_that_learn", "self.accepted.eq(~drop)",
        "self.accepted.eq(1)"),
    Bug("wrong strobe", "rtl/registers.py", "tests/test_registers.py::test_byte_strobes",
        "with m.If(self.axil_wstrb[byte]):", "with m.If(self.axil_wstrb[0]):"),
    Bug("answers of probe passes delivered", "rtl/core.py",
        "tests/test_learning_verilog.py::test_lower_layer_alone",
        "readout.commit.eq(last.o_commit & ~perturbed)", "readout.commit.eq(last.o_commit)"),
    Bug("node probes meet noise on the weights behind", "rtl/rules.py",
        "tests/test_line_rate_verilog.py::test_rules_in_turn",
        "control.selected[position] & ~by_nodes", "control.selected[position]"),
    Bug("the rate decay starts over too early", "rtl/rules.py",
        "tests/test_drift_verilog.py::test_restart_waits_for_the_last_update",
        "drift.busy.eq(node.busy if node else 0)", "drift.busy.eq(0)"),
    Bug("a base pass does not wait for its update", "rtl/core.py",
        "tests/test_line_rate_verilog.py::test_hidden_and_head",
        "base_pass(buffer.tag) & ~memories[index].ready", "Const(0)"),
)


def run(folder: Path, test: str) -> subprocess.CompletedProcess:
    """Run a test in a copy of the tree."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "--tb=short", "-p", "no:cacheprovider", test],
        cwd=folder, env=environment | {"PYTHONPATH": str(folder)}, capture_output=True, text=True,
        timeout=600)


def plant(bug: Bug, folder: Path) -> None:
    """A copy of the tree in `folder`, with the bug in it."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name,
                            ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)
    path = folder / bug.file
    text = path.read_text()
    assert text.count(bug.old) == 1, f"{bug.file}: {bug.old!r} is there {text.count(bug.old)} times"
    path.write_text(text.replace(bug.old, bug.new))


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug.file}: {bug.what}")
def test_bug_is_caught(bug, tmp_path):
    if "verilog" in bug.test and not shutil.which("g++"):
        pytest.skip("needs g++")
    plant(bug, tmp_path)
    done = run(tmp_path, bug.test)
    # 1: tests ran and failed; a patch that breaks an import would give 2.
    assert done.returncode == 1 and "1 failed" in done.stdout, done.stdout
    assert any(sign in done.stdout for sign in (
        "E   assert", "AssertionError", "SimulationError", "DID NOT RAISE"))


def test_edit_without_effect_passes(tmp_path):
    """The copy is not what makes a test fail."""
    plant(Bug("none", "rtl/fitness.py", "", "with m.If(mine > other):", "with m.If(other < mine):"),
          tmp_path)
    done = run(tmp_path, "tests/test_fitness.py")
    assert done.returncode == 0, done.stdout


def test_document_has_this_table():
    lines = (ROOT / "docs" / "verification.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    assert rows == [bug.row for bug in BUGS]
