"""A compiled learner beside the plain one."""
import numpy as np

from firmware_models.learner import compare

from .networks import samples


def lockstep(plain, fast, network, parts, seed=1):
    """Both through `parts` of (settings, samples), with learn bits mixed; the plain one's state.

    Predictions, which samples were learned from, and all state are compared three times a part.
    The learners have the first settings already.
    """
    assert not compare(plain.state, vars(fast.state))
    for n, (settings, count) in enumerate(parts):
        if n:
            for learner in (plain, fast):
                learner.configure(settings)
            assert not compare(plain.state, vars(fast.state))
        x, y = samples(network, count, seed=seed + n)
        learn = np.random.default_rng(seed + n).random(count) < 0.8
        for part in np.array_split(np.arange(count), 3):
            want = plain.learn(x[part], y[part], learn[part])
            assert fast.learn(x[part], y[part], learn[part]).tolist() == want.tolist()
            assert fast.learned.tolist() == plain.learned.tolist()
            assert not compare(plain.state, vars(fast.state))
            if settings.rule == "es":
                assert fast.older == plain.older * (settings.rounding == "replay")
    np.testing.assert_array_equal(fast.predict(x), plain.predict(x))
    assert fast.deployed_network().digest() == plain.deployed_network().digest()
    return plain.state
