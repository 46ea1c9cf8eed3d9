"""Run-time settings of a core, and what they may be."""
from dataclasses import dataclass

from . import directions, noise
from .loss import LOSS_WIDTH
from .partial_updates import ONE
from .progress import DECAYS_MAX
from .rounding import ROUNDINGS
from .rules import es
from .rules.node_probe import MAX_PROBES

RULES = ("es", "np")                # position = value of the register field


def check_limits(settings, limits: dict[str, tuple]) -> None:
    """Raise ValueError for an attribute that is not within its (least, greatest)."""
    for name, (low, high) in limits.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            raise ValueError(f"{name} must be {low} to {high}, not {value}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Run-time settings of the core: the fields of its registers.

    Parameters
    ----------
    rule : {"np", "es"}
        Node probes with the delta rule for the last layer, or the evolutionary strategy, of which
        sign-m-SPSA is a case.
    layers : tuple of int
        Stages that learn. With "es" the lowest one is where probe passes enter. The number behind
        the last stage is the input prompt, of which they enter at the first stage.
    sigma_log2 : int
        Probe amplitude, 0 to 7: 2**(sigma_log2 - 6) in the pre-activation ("np", default 5),
        2**sigma_log2 steps of a weight of 8 bits ("es", default 2).
    lr_shift : int
        Learning rate, 0 to 15. "np", default 9: a node's weights move when its error reaches
        2**lr_shift / 256 bits of loss. "es", default 7: a fitness of 1 moves a master by
        2**(7 - lr_shift) steps.
    lr_decay : int
        Updates after which the rate halves, 0 for never, to 65535.
    seed : int
        Start of the noise, 1 to 2**32 - 1.
    probes : int
        "np": probes K of each selected hidden layer and sample, 0 to 32.
    head_shift : int
        "np": lr_shift of the last layer, 0 to 15.
    turn : bool
        "np": one of the selected hidden layers per sample in turn, instead of all.
    skip : int
        "np": samples whose loss is below this, in 1/256 bit, change no weights; 0 to 16383.
    lmin, lmax : int
        "np": share of the last layer's nodes, those of the largest errors, that a sample updates,
        in 1/256: between `lmin` for no error and `lmax` for the largest one so far; 0 to 256,
        `lmin` not above `lmax`. `lmin` 256, the default: all nodes.
    standardize : int
        "np": errors of the last layer count as 1 where they are this or more, in 1/256, and not
        at all where they are less; 1 to 256. 0, the default: they count as what they are.
    pairs : int
        "es": antithetic probe pairs P per sample, 1 to the core's `max_pairs`.
    batch : int
        "es": samples that share a population before an update, 1 to 256.
    fitness : {"sign", "rank", "zscore", "best"}
        "es".
    start, stop : int
        Running loss, in 1/256 bit, from which on samples are learned from, and below which they
        are not; 0 to 16383, `stop` not above `start`. `start` 0: they always are.
    restart : bool
        When learning starts again, so does the rate decay.
    vote : int
        "es": a weight moves by one step where its change exceeds this, in master steps; 0, the
        default, moves masters by their changes; to 16383.
    sparse : {"off", "hash", "static", "biases"}
        "es": weights that are probed and updated: all; a quarter, others with each probe; the same
        quarter for ever; none. Biases always are.
    rank1 : bool
        "es": noise of rank one: its signs are products of one per input and one per output.
    kernel : bool
        "es": amplitude and rate are smaller in rows of smaller weights, by powers of two that come
        from the weights the core starts with.
    sharp : int
        "es": 0, or all pairs but the first are measured 2**(sharp - 1) weight steps up the way that
        the first one found to be up; to 7.
    momentum : bool
        "es": probes are drawn around the way that the weights have gone.
    sigma_decay : bool
        "es": the amplitude halves whenever the rate does.
    rounding : {"feedback", "nearest", "stochastic", "pseudo", "replay"}
        "es": see :mod:`firmware_models.rounding`. But for the first, `lr_shift` may be 4 larger for
        the same coefficients, and is 4 at least.
    """
    rule: str = "np"
    layers: tuple[int, ...] = ()
    sigma_log2: int | None = None
    lr_shift: int | None = None
    lr_decay: int = 0
    seed: int = 1
    probes: int = 8
    head_shift: int = 7
    turn: bool = False
    skip: int = 0
    lmin: int = ONE
    lmax: int = ONE
    standardize: int = 0
    pairs: int = 4
    batch: int = 1
    fitness: str = "sign"
    start: int = 0
    stop: int = 0
    restart: bool = False
    vote: int = 0
    sparse: str = "off"
    rank1: bool = False
    kernel: bool = False
    sharp: int = 0
    momentum: bool = False
    sigma_decay: bool = False
    rounding: str = "feedback"

    def __post_init__(self):
        if self.rule not in RULES:
            raise ValueError(f"rule must be one of {RULES}, not {self.rule!r}")
        object.__setattr__(self, "layers", tuple(sorted(self.layers)))
        for name, default in (("sigma_log2", {"np": 5, "es": 2}),
                              ("lr_shift", {"np": 9, "es": 7})):
            if getattr(self, name) is None:
                object.__setattr__(self, name, default[self.rule])
        limits = {"pairs": (1, 64), "batch": (1, 256), "sigma_log2": (0, 7),
                  "lr_shift": (0, DECAYS_MAX), "lr_decay": (0, 65535), "seed": (1, noise.MASK),
                  "probes": (0, MAX_PROBES), "head_shift": (0, DECAYS_MAX),
                  "skip": (0, (1 << LOSS_WIDTH) - 1), "vote": (0, (1 << es.VOTE_WIDTH) - 1),
                  "start": (0, (1 << LOSS_WIDTH) - 1), "stop": (0, self.start), "sharp": (0, 7),
                  "lmax": (0, ONE), "lmin": (0, self.lmax), "standardize": (0, ONE)}
        check_limits(self, limits)
        if self.fitness not in es.FITNESSES:
            raise ValueError(f"fitness must be one of {es.FITNESSES}, not {self.fitness!r}")
        if self.sparse not in directions.SPARSE:
            raise ValueError(f"sparse must be one of {directions.SPARSE}, not {self.sparse!r}")
        if self.rounding not in ROUNDINGS:
            raise ValueError(f"rounding must be one of {ROUNDINGS}, not {self.rounding!r}")
