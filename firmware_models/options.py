"""What a core can be built with beside its rules; what it is built without costs no logic."""
from collections.abc import Callable
from dataclasses import dataclass

from .partial_updates import ONE
from .rules.es import SHAPED


@dataclass(frozen=True)
class Option:
    """An option of the generator.

    Parameters
    ----------
    rules : tuple of {"np", "es"}
        It serves these; a core with none of them cannot have it.
    doc : str
    used : callable of Settings to bool
        Whether settings need it.
    """
    rules: tuple[str, ...]
    doc: str
    used: Callable[..., bool]


OPTIONS = {
    "rank": Option(("es",), "rank fitness", lambda s: s.fitness == "rank"),
    "shaping": Option(("es",), "fitness zscore and best", lambda s: s.fitness in SHAPED),
    "vote": Option(("es",), "updates by votes", lambda s: s.vote > 0),
    "sparse": Option(("es",), "weights that are neither probed nor updated",
                     lambda s: s.sparse != "off"),
    "rank1": Option(("es",), "directions of rank one", lambda s: s.rank1),
    "kernel": Option(("es",), "smaller steps in rows of smaller weights", lambda s: s.kernel),
    "sharp": Option(("es",), "pairs measured where the sample's first one points",
                    lambda s: s.sharp > 0),
    "sigma_decay": Option(("es",), "an amplitude that halves with the rate",
                          lambda s: s.sigma_decay),
    "momentum": Option(("es",), "probes drawn around the way that weights have gone",
                       lambda s: s.momentum),
    "rounding": Option(("es",), "updates in 1/16 master steps, rounded by noise or by themselves",
                       lambda s: s.rounding != "feedback"),
    "replay": Option(("es",), "rounding with the residual of the last updates, found again",
                     lambda s: s.rounding == "replay"),
    "prompt": Option(("es",), "a vector that learns and is added to the features",
                     lambda s: False),
    "journal": Option(("es",), "the last updates' seeds and coefficients, to rebuild weights from",
                      lambda s: False),
    "load": Option(("np", "es"), "the host writes weights", lambda s: False),
    "snapshot": Option(("np", "es"), "weights kept aside and restored", lambda s: False),
    "drift": Option(("np", "es"), "the running loss starts and stops learning",
                    lambda s: s.start > 0),
    "topk": Option(("np",), "of the last layer, only nodes of large error are updated",
                   lambda s: s.lmin < ONE),
    "standardize": Option(("np",), "errors of the last layer as signs of one size",
                          lambda s: s.standardize > 0),
}

# Options that others come with.
NEEDS = {"replay": "rounding"}
# Options that cannot be had together.
APART = {("momentum", "journal"): "its directions depend on all earlier updates",
         ("replay", "journal"): "its changes depend on earlier updates"}
# Options of the delta rule, which the last layer learns by.
OF_HEAD = ("topk", "standardize")


def needed(settings) -> tuple[str, ...]:
    """Options that settings (:class:`firmware_models.settings.Settings`) cannot do without."""
    return tuple(name for name, option in OPTIONS.items()
                 if settings.rule in option.rules and option.used(settings))


def check_head(options, network) -> None:
    """ValueError for an option of the last layer's rule where that layer cannot learn."""
    head = network.stages[-1]
    for name in OF_HEAD:
        if name in options and head.index not in network.trainable:
            raise ValueError(f"option {name} is for the delta rule of the last layer, and "
                             f"{head.dense.name} is not trainable; make it so, or build without")


def checked(options, rules) -> tuple[str, ...]:
    """The options in their order, or ValueError for what is unknown or cannot be had."""
    for name in options:
        if name not in OPTIONS:
            raise ValueError(f"unknown option {name!r}; there are {', '.join(OPTIONS)}")
        if not set(OPTIONS[name].rules) & set(rules):
            raise ValueError(f"option {name} needs rule {' or '.join(OPTIONS[name].rules)}")
    for pair, why in APART.items():
        if set(pair) <= set(options):
            raise ValueError(f"option {pair[0]} does not go with {pair[1]}: {why}")
    for name, other in NEEDS.items():
        if name in options and other not in options:
            raise ValueError(f"option {name} needs option {other}")
    if "prompt" in options and "np" in rules:
        raise ValueError("option prompt learns by rule es; a core with rule np cannot have it")
    return tuple(name for name in OPTIONS if name in options)
