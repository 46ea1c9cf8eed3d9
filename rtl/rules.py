"""The wires of the rules: controllers, memories and noise of the trainable stages of a core."""
from amaranth import *

from firmware_models.rules.node_probe import MAX_PROBES

from .controller import LearnController
from .directions import held_settings
from .drift import Drift
from .node_noise import NodeNoise
from .node_probe import NodeProbe
from .partial_updates import PartialUpdates
from .shapes import assign_tag, field_of
from .standardize import standardize

__all__ = ["base_pass", "continuous", "evolution", "node_probes", "selected"]


def base_pass(tag):
    """Whether a pass is the unperturbed one of a sample that stages learn from."""
    return tag.train.any() & ~field_of(tag, "probe")


def selected(network, registers):
    """Register `layers`, one bit per trainable stage."""
    return Cat(registers.layers[i] for i in network.trainable)


def continuous(m, registers, source, loss, progress, node):
    """Option "drift": learn bits count while the running loss says so. `node` None: no rule np."""
    m.submodules.drift = drift = Drift()
    m.d.comb += [
        drift.accepted.eq(source.accepted), source.active.eq(drift.active),
        drift.loss_valid.eq(loss.o_valid & ~field_of(loss.o_tag, "probe")),
        drift.loss_average.eq(progress.loss_average),
        drift.start.eq(registers.start), drift.stop.eq(registers.stop),
        drift.restart_decay.eq(registers.stop_restart),
        drift.seed_write.eq(registers.seed_write), drift.busy.eq(node.busy if node else 0),
        registers.progress_on.eq(drift.on), registers.progress_decided.eq(drift.decided),
    ]
    return drift


def evolution(m, core, registers, loss, progress, readback, by_nodes, buffers, engines, memories):
    """Rule "es": the controller owns the stage where a sample's passes enter."""
    m.submodules.controller = control = LearnController(
        core.network, max_pairs=core.max_pairs, options=core.options)
    # A number of pairs that the core cannot keep counts as the most it can.
    too_many = (registers.pairs == 0) | (registers.pairs > core.max_pairs)
    m.d.comb += [
        control.layers.eq(selected(core.network, registers)),
        control.pairs.eq(Mux(too_many, core.max_pairs, registers.pairs)),
        control.batch.eq(registers.batch),
        control.fitness.eq(registers.rule_fitness
                           if {"rank", "shaping"} & set(core.options) else 0),
        control.sigma_in.eq(registers.sigma), control.lr_shift.eq(registers.rate_lr_shift),
        control.decays.eq(progress.decays), control.seed.eq(registers.seed),
        control.seed_write.eq(registers.seed_write), control.hold.eq(readback.request),
        control.journal_pair.eq(readback.word),
        control.loss_valid.eq(loss.o_valid), control.loss.eq(loss.o_loss),
        control.loss_probe.eq(loss.o_tag.probe), control.loss_negative.eq(loss.o_tag.negative),
        registers.next_seed.eq(control.next_seed),
        registers.progress_batch_index.eq(control.batch_index),
    ]
    trained = [memories[i] for i in core.network.trainable]
    if "vote" in core.options:
        m.d.comb += [control.vote_in.eq(registers.vote),
                     *[weights.vote.eq(control.vote) for weights in trained]]
    if "sigma_decay" in core.options:
        m.d.comb += control.sigma_decay.eq(registers.rule_sigma_decay)
    if "sharp" in core.options:
        m.d.comb += [control.sharp.eq(registers.rule_sharp), *[
            getattr(weights, name).eq(getattr(control, name)) for weights in trained
            for name in ("away", "down", "rho", "first_seed")]]
    if "rounding" in core.options:
        m.d.comb += [control.rounding_in.eq(registers.rule_rounding),
                     *[weights.rounding.eq(control.rounding) for weights in trained]]
    if "replay" in core.options:
        m.d.comb += [weights.oldest.eq(control.oldest) for weights in trained]
    forms = held_settings(m, registers, core.options, ~control.busy)
    for position, index in enumerate(core.network.trainable):
        stage, weights = core.network.stage_of(index), memories[index]
        buffer, engine = buffers[stage], engines[stage]
        # A prompt is read a cycle before the weights, and gets its tags elsewhere.
        tags = [*assign_tag(weights.pass_tag, engine.w_tag),
                *assign_tag(weights.bias_tag, engine.bias_tag)] if index == stage else []
        with m.If(control.owned[position]):
            m.d.comb += [
                engine.pass_valid.eq(control.pass_valid),
                *assign_tag(engine.pass_tag, control.pass_tag),
                control.pass_ready.eq(engine.pass_ready),
                buffer.take.eq(control.release),
            ]
            with m.If(control.release):
                m.d.comb += buffer.release.eq(1)
        m.d.comb += [
            control.head_valid[position].eq(buffer.valid),
            control.head_learn[position].eq(buffer.tag.learn & ~field_of(buffer.tag, "probe")),
            control.head_label[position].eq(buffer.tag.label),
            *tags,
            # What node probes leave to the stages behind them is no noise on weights.
            weights.selected.eq(control.selected[position] & ~by_nodes),
            weights.sigma.eq(control.sigma), weights.sweep.eq(control.sweep[position]),
            weights.pair.eq(control.pair), weights.seed.eq(control.sweep_seed),
            weights.coefficient.eq(control.coefficient),
            weights.last_pair.eq(control.last_pair),
            *[getattr(weights, name).eq(held) for name, held in forms.items()],
        ]
    m.d.comb += [
        control.sweep_done.eq(Cat(weights.sweep_done for weights in trained).any()),
        control.accumulate.eq(Cat(weights.accumulate for weights in trained).any()),
    ]
    return control


def head_errors(m, core, registers, loss, node):
    """Errors of the last layer's nodes on their way to rule "np": which of them, and how large."""
    valid, error = loss.error_valid, loss.error
    if "topk" in core.options:
        m.submodules.partial_updates = partial = PartialUpdates(core.network.n_classes)
        m.d.comb += [
            partial.i_valid.eq(valid), partial.i_error.eq(error),
            partial.lmin.eq(registers.topk_lmin), partial.lmax.eq(registers.topk_lmax),
            partial.restart.eq(node.restart), registers.error_max.eq(partial.largest),
        ]
        valid, error = partial.o_valid, partial.o_error
    if "standardize" in core.options:
        error = standardize(m, error, registers.standardize)
    return valid, error


def node_probes(m, core, registers, source, loss, progress, buffers, engines, memories):
    """Rule "np": every base pass of a learning sample updates, and is probed."""
    network, first = core.network, engines[0]
    m.submodules.nodes = node = NodeProbe(
        network, tag=loss.o_tag.shape(), bits=core.coefficient_bits)
    m.d.comb += [
        source.train.eq(node.train), node.taken.eq(source.taken),
        node.entered.eq(first.pass_valid & first.pass_ready & base_pass(first.pass_tag)),
        node.loss_valid.eq(loss.o_valid), node.loss.eq(loss.o_loss),
        node.loss_tag.eq(loss.o_tag), loss.go.eq(node.go), node.loss_begun.eq(loss.begun),
        node.lr_shift.eq(registers.rate_lr_shift),
        node.head_shift.eq(registers.rate_head_shift), node.decays.eq(progress.decays),
        node.skip.eq(registers.skip), node.turn.eq(registers.rule_turn),
        node.restart_request.eq(registers.seed_write),
        node.window_word.eq(registers.window_word),
    ]
    if loss.head is not None:
        error_valid, error = head_errors(m, core, registers, loss, node)
        m.d.comb += [loss.error_go.eq(node.error_go),
                     node.error_valid.eq(error_valid), node.error.eq(error)]
    for position, index in enumerate(network.trainable):
        buffer, engine, weights = buffers[index], engines[index], memories[index]
        m.d.comb += [
            weights.accepted.eq(engine.pass_valid & engine.pass_ready
                                & base_pass(engine.pass_tag)),
            weights.started.eq(engine.w_started & base_pass(engine.w_tag)),
            weights.next_addr.eq(engine.w_next), weights.x.eq(buffer.r_data[:len(weights.x)]),
            weights.update.eq(base_pass(engine.w_tag)),
            weights.bias_update.eq(engine.bias_en), weights.bias_last.eq(engine.bias_last),
            weights.shift.eq(node.shift[position]), weights.fired_in.eq(node.fired),
            weights.negative_in.eq(node.minus), weights.loaded.eq(node.loaded[position]),
            weights.w_word.eq(node.word), weights.w_lane.eq(node.lane),
            weights.restart.eq(node.restart), node.spent[position].eq(weights.spent),
        ]
    # More probes than there are count as the most.
    count = Mux(registers.probes > MAX_PROBES, MAX_PROBES, registers.probes)
    for position, index in enumerate(network.hidden):
        engine = engines[index]
        m.submodules[f"noise{index}"] = noise = NodeNoise(
            network.stages[index], generator=position)
        m.d.comb += [
            engine.count.eq(count),
            noise.draw.eq(engine.drawn), noise.active.eq(engine.active),
            noise.w_addr.eq(engine.drawn_addr), noise.last.eq(engine.drawn_last),
            noise.en.eq(engine.noise_en), noise.addr.eq(engine.noise_addr),
            noise.k.eq(engine.noise_k), noise.sigma.eq(registers.sigma),
            *[to.eq(value) for to, value in zip(engine.noise, noise.noise, strict=True)],
            noise.r_word.eq(node.word), noise.r_lane.eq(node.lane),
            noise.r_slot.eq(node.slot[position]),
            node.negative[position].eq(noise.negative),
            node.active[position].eq(noise.r_active),
            noise.restart.eq(node.restart), noise.seed.eq(registers.seed),
        ]
    return node
