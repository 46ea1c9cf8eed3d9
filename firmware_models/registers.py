"""The core's AXI4-Lite registers: one table for RTL, manifest, documentation and benches."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """Bits of a register: ``width`` bits from bit ``lsb`` on, `reset` after reset."""
    name: str
    lsb: int
    width: int
    doc: str
    reset: int = 0


@dataclass(frozen=True)
class Register:
    """A 32-bit register.

    Parameters
    ----------
    name : str
    offset : int
        Byte address, a multiple of 4.
    access : {"rw", "ro", "w1c"}
        Read and write; read only; read, and cleared by writing ones.
    fields : tuple of Field
    learning : bool
        Present only in cores that learn.
    """
    name: str
    offset: int
    access: str
    fields: tuple[Field, ...]
    learning: bool = True


def _value(name, offset, width, doc, access="ro", reset=0, learning=True):
    return Register(name, offset, access, (Field("value", 0, width, doc, reset),), learning)


ID = 0x48574731                     # "HWG1"
JOURNAL_SPACE = 15

REGISTERS = (
    _value("id", 0x00, 32, "the constant 0x48574731, \"HWG1\"", learning=False),
    Register("control", 0x04, "rw", (
        Field("logits", 0, 1, "logits follow each prediction on m_axis"),
        Field("learn", 1, 1, "learn from samples whose learn bit is set"),
    ), learning=False),
    _value("samples", 0x08, 32, "samples whose unperturbed pass has ended", learning=False),
    _value("dropped", 0x0C, 32, "packets dropped: wrong length, or label out of range",
           learning=False),
    Register("rule", 0x10, "rw", (
        Field("fitness", 0, 1, "0 sign, 1 rank of the loss differences", 1),
    )),
    _value("layers", 0x14, 14, "bit l: stage l is perturbed and updated", "rw"),
    _value("pairs", 0x18, 7, "antithetic pairs per sample", "rw", 4),
    _value("batch", 0x1C, 9, "samples per update, 1 to 256", "rw", 1),
    _value("sigma", 0x20, 3, "probe amplitude: 2**sigma weight steps", "rw", 2),
    Register("rate", 0x24, "rw", (
        Field("lr_shift", 0, 4, "a fitness of 1 moves a master by 2**(7 - lr_shift) steps", 7),
        Field("lr_decay", 16, 16, "updates after which lr_shift grows by one; 0: never"),
    )),
    _value("seed", 0x28, 32, "first seed, not 0; writing restarts population and rate decay",
           "rw", 1),
    Register("status", 0x2C, "w1c", (
        Field("torn", 0, 1, "a reset cut an update in two: reload or relearn the weights"),
    )),
    _value("busy", 0x30, 1, "a sample is being learned from; passes and losses of other samples "
           "follow their answer by up to 4 * n_classes + 5 cycles"),
    _value("passes", 0x34, 32, "passes evaluated, probes included"),
    _value("updates", 0x38, 32, "weight updates"),
    _value("saturations", 0x3C, 32, "memory words in which an update clipped a weight"),
    _value("loss", 0x40, 14, "loss of the last unperturbed pass, 1/256 bit"),
    _value("loss_average", 0x44, 22, "running average of that loss, 2**-16 bit"),
    _value("next_seed", 0x48, 32, "seed of the next probe"),
    Register("progress", 0x4C, "ro", (
        Field("batch_index", 0, 9, "samples of the current batch already evaluated"),
        Field("decays", 12, 4, "times the rate was halved"),
        Field("decay_count", 16, 16, "updates since then"),
    )),
    Register("window", 0x50, "rw", (
        Field("word", 0, 16, "memory word, or pair of the journal; biases follow the weights"),
        Field("lane", 16, 12, "lane in the word; journal: 0 seed, 1 loss difference"),
        Field("space", 28, 4, f"stage, or {JOURNAL_SPACE} for the journal"),
    )),
    _value("window_data", 0x54, 32, "the master, seed or difference that `window` points at, "
           "sign-extended; reading waits for the running pass"),
)


def table(learning: bool) -> tuple[Register, ...]:
    """Registers of a core with or without learning."""
    return tuple(r for r in REGISTERS if learning or not r.learning)


def markdown() -> str:
    """The register map as a Markdown table."""
    rows = ["| offset | register | bits | field | access | reset | core | meaning |",
            "|---|---|---|---|---|---|---|---|"]
    for reg in REGISTERS:
        for f in reg.fields:
            bits = f"{f.lsb + f.width - 1}:{f.lsb}" if f.width > 1 else str(f.lsb)
            rows.append(f"| 0x{reg.offset:02X} | `{reg.name}` | {bits} | `{f.name}` | {reg.access} "
                        f"| {f.reset} | {'learning' if reg.learning else 'all'} | {f.doc} |")
    return "\n".join(rows) + "\n"
