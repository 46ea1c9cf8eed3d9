"""A compiled learner beside the plain one, and networks to compare them on."""
import numpy as np

from firmware_models.formats import Fixed
from firmware_models.learner import compare
from firmware_models.network import Dense, Network

from .networks import samples
from .random_networks import random_spec


def random_network(rng, trains=lambda layer, source: True, *, prompts: bool = False) -> Network:
    """Formats that nobody would think of, accumulators that drop bits and wrap among them.

    Two in three of the layers are trainable that may be, by their spec and the format of their
    inputs; one network in three has a prompt, if there are `prompts`.
    """
    while True:
        spec, layers = random_spec(rng, constant=False, branches=False), []
        source = spec.input
        for layer in spec.layers:
            if hasattr(layer, "n_in"):
                wide = Fixed(source.width + layer.weight.width + 6,
                             source.frac + layer.weight.frac)
                layer = Dense(
                    **vars(layer) | {"accum": layer.accum or wide}, n_in=layer.n_in,
                    n_out=layer.n_out,
                    trainable=bool(rng.integers(3)) and trains(layer, source))
            layers.append(layer)
            source = layer.result
        network = Network(name="random", input=spec.input, layers=tuple(layers))
        network = network.with_prompt() if prompts and rng.integers(3) == 0 else network
        if network.trainable:
            return network


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
