"""Golden learner and Verilated core, step by step."""
import numpy as np

from firmware_models.learner import Learner, compare
from firmware_models.settings import Settings
from sim.device import Device

from .networks import samples

OVERLAPPING = 12            # most samples in a stream of rule "np": more than a core can hold


def lockstep(core, *parts: tuple[Settings, int], learn_share: float = 1.0,
             predict_share: float = 0.0, pauses: bool = True) -> Learner:
    """Step learner and device together; compare all state after each stream.

    Parameters
    ----------
    core : (Network, int, path)
        Network, residual bits, manifest.
    parts : (Settings, updates)
        Configure both, and go on until there were that many more updates. A stream is up to a
        batch with "es", and 1 to 12 samples with "np", where they overlap.
    learn_share : float
        Samples with the learn bit among those that are streamed to learn from.
    predict_share : float
        Streams for which learning is switched off.
    """
    network, residual, manifest = core
    first = parts[0][0]
    rng = np.random.default_rng(first.seed)
    x, y = samples(network, 500, seed=first.seed)
    with Device(manifest, seed=first.seed) as device:
        learner = Learner(network, first, residual, device.manifest["coefficient_bits"],
                          device.journal_records, device.manifest["max_pairs"],
                          momentum="momentum" in device.manifest["options"])
        step = 0
        for settings, updates in parts:
            learner.configure(settings)
            device.configure(settings)
            goal = learner.state.updates + updates
            while learner.state.updates < goal:
                # Up to one update's samples in one stream.
                count = settings.batch - learner.state.batch_index if settings.rule == "es" \
                    else rng.integers(1, OVERLAPPING + 1)
                rows = np.arange(step, step + count) % len(x)
                idle, stall = rng.choice([0, 0.3, 0.8], 2) if pauses else (0, 0)
                if rng.random() < predict_share:
                    bits = np.zeros(count, bool)
                    got = device.predict(x[rows], y[rows], idle=idle, stall=stall)
                else:
                    bits = rng.random(count) < learn_share
                    got = device.partial_fit(x[rows], y[rows], learn=bits, idle=idle, stall=stall)
                expected = [learner.step(x[n], int(y[n]), bool(bit)).argmax()
                            for n, bit in zip(rows, bits, strict=True)]
                assert got.tolist() == expected, f"step {step}"
                difference = compare(learner.state, device.state())
                assert difference == "", \
                    f"step {step}, update {learner.state.updates}: {difference}"
                step += count
        assert device.read("status", "torn") == 0
    return learner
