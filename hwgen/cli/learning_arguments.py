"""Arguments of the commands that learn."""
import argparse
import textwrap
from pathlib import Path

from firmware_models.directions import SPARSE
from firmware_models.rounding import ROUNDINGS
from firmware_models.rules.es import FITNESSES

from .. import recover, sweep
from .shared import per_example

RECOVER_EXAMPLES = """examples:
  hwgen recover --example mnist --seeds 1 2 3 4 5
  hwgen recover --example mnist --rule np --layers fc1 fc3 --probes 16 --head-shift 6
  hwgen recover --example mnist --rule delta --train fc3 --head-shift 8
  hwgen recover --example mnist --rule delta --train fc3 --options topk,standardize --lmin 26 \\
      --standardize 16
  hwgen recover --example mnist --rule es --train fc3 --pairs 8 --batch 4 --fitness rank
  hwgen recover --example mnist --rule es --train fc3 --options vote --vote 4
  hwgen recover --example mnist --rule qzo --train fc3 --pairs 1
  hwgen recover --example mnist --rule qzo --train fc3 --options sparse,momentum --sparse hash \\
      --momentum
  hwgen recover --example speech --options drift --start 300 --stop 100
"""


def by_rule() -> str:
    """What each rule takes, with its defaults."""
    lines = ["options of the rules, with their defaults:"]
    for rule, family in recover.FAMILY.items():
        settings, flags = recover.settings_for(rule, ()), ["--layers"]
        for name in (*recover.COMMON, *recover.OPTIONS[family]):
            if name not in recover.FIXED[rule]:
                value = getattr(settings, name)
                flags.append(f"--{name.replace('_', '-')}"
                             + (f"={value}" if not isinstance(value, bool) else ""))
        lines.append(textwrap.fill(" ".join(flags), 79, initial_indent=f"  {rule:7}",
                                   subsequent_indent=" " * 9, break_on_hyphens=False))
    return "\n".join(lines) + "\n"


def learning_arguments(sub) -> None:
    group = sub.add_argument_group("learning")
    rules = "; ".join(f"{name}: {text}" for name, text in recover.RULES.items())
    group.add_argument("--rule", default="np", help=rules)
    group.add_argument("--disturb", metavar="KIND", help="none, noise:S, stuck:F, invert, "
                       "rotate:DEG or impulse:F" + per_example("disturb"),
                       default=argparse.SUPPRESS)
    group.add_argument("--samples", type=int, metavar="N", default=argparse.SUPPRESS,
                       help="to learn from, in each run" + per_example("samples"))
    group.add_argument("--seeds", type=int, nargs="+", metavar="N", default=argparse.SUPPRESS,
                       help="one run each" + per_example("seeds"))
    group.add_argument("--layers", nargs="+", metavar="LAYER",
                       help="layers that learn, prompt among them; all trainable ones by default")
    for name, text in (("probes", "np: per hidden layer and sample, 0 to 32 (8)"),
                       ("sigma-log2", "probe amplitude: np 2**(sigma - 6) in the pre-activation "
                        "(5); es, qzo 2**sigma steps of a weight of 8 bits (3)"),
                       ("lr-shift", "np: weights of a node move when its error reaches "
                        "2**shift / 256 bit (9); es, qzo: fitness 1 moves a weight by "
                        "2**(7 - shift - R) steps (7)"),
                       ("head-shift", "np, delta: lr-shift of the last layer (7)"),
                       ("skip", "np, delta: samples with less loss, in 1/256 bit, are not learned "
                        "from (0)"),
                       ("lmin", "np, delta, with --options topk: share of the last layer's nodes, "
                        "those of the largest errors, that a sample without error updates, in "
                        "1/256, to lmax; 256: all nodes, always (256)"),
                       ("lmax", "np, delta, with --options topk: the share for the largest error "
                        "so far (256)"),
                       ("standardize", "np, delta, with --options standardize: errors of the last "
                        "layer from this on, in 1/256, count as 1, smaller ones as 0, to 256; 0: "
                        "as they are (0)"),
                       ("lr-decay", "updates after which the rate halves; 0: never (0)"),
                       ("pairs", "es, qzo: antithetic pairs per sample (4; qzo 2)"),
                       ("batch", "es: samples per update (2)"),
                       ("vote", "es, with --options vote: a weight moves by one step where its "
                        "change exceeds this, say theta * isqrt(pairs); 0: off"),
                       ("sharp", "es, qzo, with --options sharp: 0, or all pairs but a sample's "
                        "first are measured 2**(sharp - 1) weight steps up the way it found; to "
                        "7"),
                       ("start", "with --options drift: learning starts from this running loss "
                        "on, in 1/256 bit; 0: it is always on"),
                       ("stop", "with --options drift: learning stops below this running loss, in "
                        "1/256 bit")):
        group.add_argument(f"--{name}", type=int, metavar="N", help=text, default=argparse.SUPPRESS)
    group.add_argument("--turn", action="store_true", default=argparse.SUPPRESS,
                       help="np: probe one of the hidden layers per sample, in turn")
    group.add_argument("--restart", action="store_true", default=argparse.SUPPRESS,
                       help="with --options drift: the rate decay starts over when learning does")
    group.add_argument("--fitness", choices=FITNESSES, default=argparse.SUPPRESS,
                       help="es: of the pairs' loss differences (sign); zscore and best need "
                       "--options shaping")
    group.add_argument("--sparse", choices=SPARSE, default=argparse.SUPPRESS,
                       help="es, qzo, with --options sparse: weights with noise: all, a quarter "
                       "that each probe draws, the same quarter for ever, or none; biases always")
    group.add_argument("--rank1", action="store_true", default=argparse.SUPPRESS,
                       help="es, qzo, with --options rank1: noise of rank one: a sign per input "
                       "times a sign per output")
    group.add_argument("--kernel", action="store_true", default=argparse.SUPPRESS,
                       help="es, qzo, with --options kernel: smaller amplitude and rate in rows of "
                       "smaller weights")
    group.add_argument("--momentum", action="store_true", default=argparse.SUPPRESS,
                       help="es, qzo, with --options momentum: probes are drawn around the way "
                       "that the weights have gone")
    group.add_argument("--sigma-decay", action="store_true", default=argparse.SUPPRESS,
                       help="es, qzo, with --options sigma_decay: the amplitude halves with the "
                       "rate")
    group.add_argument("--rounding", choices=ROUNDINGS, default=argparse.SUPPRESS,
                       help="es, qzo: of changes to master steps (feedback); all but feedback need "
                       "--options rounding, replay also replay")


def grid_arguments(sub) -> None:
    sub.add_argument("--grid", nargs="+", metavar="NAME=V,V", default=["lr_shift=8,9,10"],
                     help=f"values to combine, of {', '.join(sweep.SETTINGS)}")
    sub.add_argument("--layers", nargs="+", metavar="LAYER",
                     help="layers that learn; the first and the last one by default")
    sub.add_argument("--disturb", metavar="KIND", default=argparse.SUPPRESS,
                     help="as for recover" + per_example("disturb"))
    sub.add_argument("--samples", type=int, default=4000, metavar="N", help="in each run")
    sub.add_argument("--seeds", type=int, nargs="+", metavar="N", default=argparse.SUPPRESS,
                     help="one run each of every combination" + per_example("seeds"))
    sub.add_argument("--residual", type=int, default=4, metavar="R",
                     help="residual bits below each trainable weight, 0 to 8")
    sub.add_argument("--backend", default="loky", metavar="NAME",
                     help=f"of joblib: {', '.join(sweep.BACKENDS)}")
    sub.add_argument("--jobs", type=int, metavar="N", help="runs at a time; one a core by default")


def replay_arguments(sub) -> None:
    sub.add_argument("--example", metavar="NAME", default=argparse.SUPPRESS,
                     help="network whose weights to start from; the manifest's by default")
    sub.add_argument("--manifest", metavar="FILE", type=Path, required=True,
                     help="manifest.json of the core")
    sub.add_argument("--journal", metavar="FILE", type=Path, required=True,
                     help="journal.json read from it")
    sub.add_argument("-o", "--output", metavar="FILE", type=Path, default=Path("weights.npz"),
                     help="where the weights go")
