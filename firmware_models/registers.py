"""The core's AXI4-Lite registers: one table for RTL, manifest, driver, documents and benches."""
import hashlib
import json
from dataclasses import dataclass, replace

from .directions import SPARSE
from .momentum import COUNTER_WORD
from .partial_updates import ERROR_SUM_WIDTH, ONE, SHARE_WIDTH
from .rounding import ROUNDINGS
from .rules.es import FITNESSES, VOTE_WIDTH


@dataclass(frozen=True)
class Field:
    """Bits of a register: ``width`` bits from bit ``lsb`` on, `reset` after reset, or for ever.

    Present in cores that have one of `rules`, or all of them if `every`; with `options`, only in
    cores that have one of these.
    """
    name: str
    lsb: int
    width: int
    doc: str
    reset: int = 0
    rules: tuple[str, ...] = ("np", "es")
    every: bool = False
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Register:
    """A 32-bit register.

    Parameters
    ----------
    name : str
    offset : int
        Byte address, a multiple of 4.
    access : {"rw", "ro", "w1c", "port"}
        Read and write; read only; read, and cleared by writing ones; read and write what lies
        behind it, each answered when that is done.
    fields : tuple of Field
    learning : bool
        Present only in cores that learn.
    """
    name: str
    offset: int
    access: str
    fields: tuple[Field, ...]
    learning: bool = True


def _value(name, offset, width, doc, access="ro", reset=0, learning=True, **more):
    return Register(name, offset, access, (Field("value", 0, width, doc, reset, **more),), learning)


ID = 0x48574731                     # "HWG1"
CONSTANT = ("id", "build")          # registers that never change
JOURNAL_SPACE, ERROR_SPACE, RECORD_SPACE = 15, 14, 13
PORTS = {"window_data": "load"}         # registers that an option of the core makes writable
NP, ES = ("np",), ("es",)

REGISTERS = (
    _value("id", 0x00, 32, "the constant 0x48574731, \"HWG1\"", reset=ID, learning=False),
    Register("control", 0x04, "rw", (
        Field("logits", 0, 1, "logits, or the softmax's outputs, follow each prediction on m_axis"),
        Field("learn", 1, 1, "learn from samples whose learn bit is set"),
    ), learning=False),
    _value("samples", 0x08, 32, "samples whose unperturbed pass has ended", learning=False),
    _value("dropped", 0x0C, 32, "packets dropped: wrong length, or label out of range",
           learning=False),
    Register("rule", 0x10, "rw", (
        Field("np", 0, 1, "1 node probes, 0 evolutionary strategy", 1, every=True),
        Field("turn", 1, 1, "probe one of the selected hidden layers per sample in turn", 0, NP),
        Field("fitness", 4, 2, "0 sign, 1 rank, 2 z-score, 3 best of the loss differences", 0, ES,
              options=("rank", "shaping")),
        Field("rank1", 7, 1, "signs of the noise: 0 one per weight, 1 the product of one per input "
              "and one per output", 0, ES, options=("rank1",)),
        Field("sparse", 8, 2, "weights with noise: 0 all, 1 a quarter, drawn with each probe, 2 "
              "the same quarter for ever, 3 none; biases always", 0, ES, options=("sparse",)),
        Field("kernel", 10, 1, "amplitude and rate are smaller in rows of smaller weights", 0, ES,
              options=("kernel",)),
        Field("momentum", 11, 1, "signs of the noise lean to the way that the weights have gone",
              0, ES, options=("momentum",)),
        Field("sharp", 12, 3, "0, or all pairs but a sample's first are measured 2**(sharp - 1) "
              "weight steps up the way that it found to be up", 0, ES, options=("sharp",)),
        Field("sigma_decay", 15, 1, "the amplitude halves whenever the rate does", 0, ES,
              options=("sigma_decay",)),
        Field("rounding", 16, 3, "of changes to master steps: 0 of coefficients instead, with "
              "feedback; 1 nearest, 2 stochastic, 3 pseudo-stochastic, 4 nearest with the residual "
              "replayed (needs replay)", 0, ES, options=("rounding",)),
    )),
    _value("layers", 0x14, 14, "bit l: stage l learns, and behind the last stage the prompt",
           "rw"),
    _value("pairs", 0x18, 7, "antithetic pairs per sample", "rw", 4, rules=ES),
    _value("batch", 0x1C, 9, "samples per update, 1 to 256", "rw", 1, rules=ES),
    _value("sigma", 0x20, 3, "probe amplitude: 2**(sigma - 6) in the pre-activation (np), 2**sigma "
           "steps of an 8-bit weight (es)", "rw", 5),
    Register("rate", 0x24, "rw", (
        Field("lr_shift", 0, 4, "np: a node's error at which its weights move is 2**lr_shift / 256 "
              "bit; es: a fitness of 1 moves a master by 2**(7 - lr_shift) steps", 9),
        Field("head_shift", 4, 4, "lr_shift of the last layer", 7, NP),
        Field("lr_decay", 16, 16, "updates after which the shifts grow by one; 0: never"),
    )),
    _value("seed", 0x28, 32, "start of the noise, not 0; writing restarts it and the rate decay, "
           "and drops updates not yet applied", "rw", 1),
    Register("status", 0x2C, "w1c", (
        Field("torn", 0, 1, "a reset cut an update or a restore in two: reload or relearn the "
              "weights"),
        Field("lost", 1, 1, "the journal no longer leads from the start weights to these: a reset "
              "or 2**32 records started it over, or the host wrote or restored weights", rules=ES,
              options=("journal",)),
    )),
    _value("busy", 0x30, 1, "a sample is being learned from, or weights are copied; passes and "
           "losses of other samples follow their answer by up to 4 * n_classes + 5 cycles"),
    _value("passes", 0x34, 32, "passes evaluated, probes included"),
    _value("updates", 0x38, 32, "weight updates"),
    _value("saturations", 0x3C, 32, "memory words in which an update clipped a weight"),
    _value("loss", 0x40, 14, "loss of the last unperturbed pass, 1/256 bit"),
    _value("loss_average", 0x44, 22, "running average of that loss, 2**-16 bit"),
    _value("next_seed", 0x48, 32, "seed of the next probe", rules=ES),
    Register("progress", 0x4C, "ro", (
        Field("batch_index", 0, 9, "samples of the current batch already evaluated", 0, ES),
        Field("on", 9, 1, "learning is on: samples with the learn bit are learned from",
              options=("drift",)),
        Field("decided", 10, 1, "the last decision, in force 64 samples later",
              options=("drift",)),
        Field("decays", 12, 4, "times the rate was halved"),
        Field("decay_count", 16, 16, "updates since then"),
    )),
    Register("window", 0x50, "rw", (
        Field("word", 0, 16, "memory word, pair of the population, slot of the journal, or node; "
              f"biases follow the weights; {COUNTER_WORD} + k: momentum of weight word k, -3 to 3"),
        Field("lane", 16, 12, "lane in the word; population: 0 seed, 1 loss difference; journal: "
              "0 seed, 1 coefficient (7:0), last of its update (8), sparse (10:9), rank1 (11), "
              "kernel (12), rounding (15:13), layers as in `layers` (28:16), 2 vote"),
        Field("space", 28, 4, "stage, or behind the last one the prompt; "
              f"{JOURNAL_SPACE} for the population under evaluation (es), {ERROR_SPACE} for the "
              f"errors of all nodes (np), {RECORD_SPACE} for the journal (es with journal)"),
    )),
    _value("window_data", 0x54, 32, "what `window` points at, sign-extended; reading waits for the "
           "running pass. With option load, writing stores the low bits there: masters only, "
           "elsewhere SLVERR"),
    _value("probes", 0x58, 6, "probes per hidden layer and sample, 0 to 32", "rw", 8, rules=NP),
    _value("skip", 0x5C, 14, "samples of less loss, in 1/256 bit, change no weights", "rw",
           rules=NP),
    _value("start", 0x60, 14, "learning starts where the running loss is this or more, in 1/256 "
           "bit, and with a write of `seed`; 0: it is always on", "rw", options=("drift",)),
    Register("stop", 0x64, "rw", (
        Field("value", 0, 14, "learning stops where the running loss is less, in 1/256 bit",
              options=("drift",)),
        Field("restart", 31, 1, "when learning starts, the rate decay starts over",
              options=("drift",)),
    )),
    _value("vote", 0x68, VOTE_WIDTH, "weights whose change exceeds this many master steps move by "
           "one weight step, others stay; 0: off", "rw", rules=ES, options=("vote",)),
    _value("journal", 0x6C, 32, "records written to the journal since reset; number k is in slot "
           "k modulo its size", rules=ES, options=("journal",)),
    Register("snapshot", 0x70, "w1c", (
        Field("take", 0, 1, "keep the weights of all trainable stages aside; 1 until it is done",
              options=("snapshot",)),
        Field("restore", 1, 1, "weights become those kept, if there are any; 1 until it is done",
              options=("snapshot",)),
        Field("valid", 3, 1, "weights are kept; writing 1 forgets them", options=("snapshot",)),
    )),
    Register("topk", 0x74, "rw", (
        Field("lmin", 0, SHARE_WIDTH, "share of the last layer's nodes that a sample without error "
              "updates, in 1/256; from 256 on all nodes are, whatever the error", ONE, NP,
              options=("topk",)),
        Field("lmax", 16, SHARE_WIDTH, "share that the sample of the largest error so far updates, "
              "in 1/256", ONE, NP, options=("topk",)),
    )),
    _value("error_max", 0x78, ERROR_SUM_WIDTH, "largest sum of the last layer's errors that "
           "a sample had since `seed` was written, in 1/256; as it was while lmin is 256", rules=NP,
           options=("topk",)),
    _value("standardize", 0x7C, SHARE_WIDTH, "errors of the last layer from this on, in 1/256, "
           "count as 1, smaller ones as 0; 0: all as they are", "rw", rules=NP,
           options=("standardize",)),
    _value("build", 0x80, 32, "a constant of each core, in its manifest.json: the first bits of "
           "a SHA-256 over network, options and registers", learning=False),
)


def table(learning: bool, rules: tuple[str, ...] = NP, options: tuple[str, ...] = (),
          build: int = 0) -> tuple[Register, ...]:
    """Registers of a core without learning, or of one that learns by `rules` with `options`.

    `build` is the constant of the register of this name: :func:`build_number`.
    """
    def kept_by(f):
        by_rule = set(f.rules) <= set(rules) if f.every else set(f.rules) & set(rules)
        return by_rule and (not f.options or set(f.options) & set(options))
    found = []
    for register in REGISTERS:
        kept = tuple(f for f in register.fields if not register.learning or kept_by(f))
        if kept and (learning or not register.learning):
            access = "port" if PORTS.get(register.name) in options else register.access
            if register.name == "build":
                kept = (replace(*kept, reset=build),)
            found.append(replace(register, fields=kept, access=access))
    return tuple(found)


def build_number(**core) -> int:
    """Constant by which a host tells a core from all others, and from what it was before.

    Parameters
    ----------
    core
        All that decides what a core is, ready for JSON; `learning`, `rules` and `options` among it.
    """
    registers = [(r.name, r.offset, r.access, [(f.name, f.lsb, f.width) for f in r.fields])
                 for r in table(core["learning"], core["rules"], core["options"])]
    text = json.dumps({**core, "registers": registers}, sort_keys=True)
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def settings_fields(settings, registers: dict) -> dict[str, dict[str, int]]:
    """What to write for settings, by register and field, the seed last.

    Parameters
    ----------
    settings : Settings
        Of :mod:`firmware_models.settings`.
    registers : dict of name to register
        As in a manifest; what the core does not have is left out.
    """
    values = {
        "rule": {"fitness": FITNESSES.index(settings.fitness), "turn": int(settings.turn),
                 "np": int(settings.rule == "np"), "sparse": SPARSE.index(settings.sparse),
                 "rank1": int(settings.rank1), "kernel": int(settings.kernel),
                 "momentum": int(settings.momentum), "sharp": settings.sharp,
                 "sigma_decay": int(settings.sigma_decay),
                 "rounding": ROUNDINGS.index(settings.rounding)},
        "layers": {"value": sum(1 << layer for layer in settings.layers)},
        "pairs": {"value": settings.pairs}, "batch": {"value": settings.batch},
        "sigma": {"value": settings.sigma_log2},
        "rate": {"lr_shift": settings.lr_shift, "head_shift": settings.head_shift,
                 "lr_decay": settings.lr_decay},
        "probes": {"value": settings.probes}, "skip": {"value": settings.skip},
        "topk": {"lmin": settings.lmin, "lmax": settings.lmax},
        "standardize": {"value": settings.standardize},
        "start": {"value": settings.start},
        "stop": {"value": settings.stop, "restart": int(settings.restart)},
        "vote": {"value": settings.vote},
        "seed": {"value": settings.seed},
    }
    return {name: {f["name"]: values[name][f["name"]] for f in registers[name]["fields"]}
            for name in values if name in registers}


def markdown() -> str:
    """The register map as a Markdown table."""
    rows = ["| offset | register | bits | field | access | reset | core | meaning |",
            "|---|---|---|---|---|---|---|---|"]
    for reg in REGISTERS:
        for f in reg.fields:
            bits = f"{f.lsb + f.width - 1}:{f.lsb}" if f.width > 1 else str(f.lsb)
            access = f"{reg.access}; rw with {PORTS[reg.name]}" if reg.name in PORTS \
                else reg.access
            reset = {"id": f"0x{ID:08X}", "build": "its own"}.get(reg.name, f.reset)
            rows.append(f"| 0x{reg.offset:02X} | `{reg.name}` | {bits} | `{f.name}` | {access} "
                        f"| {reset} | {_cores(reg, f)} | {f.doc} |")
    return "\n".join(rows) + "\n"


def _cores(register, field) -> str:
    """Which cores have a field."""
    if not register.learning:
        return "all"
    cores = (" and " if field.every else " or ").join(field.rules)
    return cores + (f" with {' or '.join(field.options)}" if field.options else "")
