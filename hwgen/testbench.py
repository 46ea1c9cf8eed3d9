"""A self-checking testbench of a core, for any simulator: no Python, no files beside it."""
import numpy as np

from firmware_models.dense import forward
from firmware_models.network import Network
from firmware_models.registers import CONSTANT
from firmware_models.sample_packets import BeatLayout, pack
from firmware_models.softmax import readout

from .registers_header import template

SAMPLES = 8
LAST_IN, LAST_OUT = 1 << 48, 1 << 32            # tlast, above tuser and tdata


def testbench(manifest: dict, network: Network) -> str:
    """SystemVerilog that streams samples, with pauses, and compares all answers and identities.

    It ends with PASS, or with ``$fatal`` and so an exit status.

    Parameters
    ----------
    manifest : dict
        ``manifest.json``.
    network : Network
        As the core has it.
    """
    rng, fmt = np.random.default_rng(1), network.input
    shape = (SAMPLES, network.n_in)
    x = np.where(rng.random(shape) < 0.25, rng.choice([fmt.min, fmt.max], shape),
                 rng.integers(fmt.min, fmt.max + 1, shape))
    labels = rng.integers(0, network.n_classes, SAMPLES)
    logits = forward(network, x)
    stimulus, answers = [], []
    for beats, label in zip(pack(x, BeatLayout(**manifest["input"])).tolist(), labels.tolist(),
                            strict=True):
        stimulus += [label << 32 | beat for beat in beats]
        stimulus[-1] |= LAST_IN
    for codes, outputs in zip(logits, readout(network, logits), strict=True):
        answers += [int(np.argmax(codes)), *(int(code) & 0xFFFFFFFF for code in outputs)]
        answers[-1] |= LAST_OUT
    registers = {r["name"]: r for r in manifest["registers"]}

    def constant(name):
        return registers[name]["fields"][0]["reset"]

    def step(name, word, write=False):
        return write << 40 | registers[name]["offset"] << 32 | word

    words = sum(s["reuse_factor"] + s["drain_words"] + s["n_out"] for s in manifest["stages"])
    return template("core_tb.sv").render(
        top=manifest["top"], version=manifest["tools"]["hwgen"], samples=SAMPLES,
        stimulus=stimulus, answers=answers,
        setup=[step(name, constant(name)) for name in CONSTANT] + [step("control", 1, True)],
        checks=[step("samples", SAMPLES), step("dropped", 0)],
        deadline=10_000 + 4 * (len(stimulus) + len(answers) + SAMPLES * words))
