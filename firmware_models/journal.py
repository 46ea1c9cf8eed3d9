"""The journal of updates: its format, its file, and weights rebuilt from it alone.

What a core keeps is ``records`` and ``written`` of :class:`firmware_models.learner.State`: per pair
of each update the seed, the coefficient, whether it is the update's last, and all else that the
update depends on. Record number k stands in slot k modulo the size of the ring, as three words:

    lane 0: seed
    lane 1: coefficient (7:0), last (8), sparse (10:9), rank1 (11), kernel (12), rounding (15:13),
            layers (28:16, bit 16 + l is stage l)
    lane 2: vote

What a core was built without is 0 there.
"""
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from .directions import SPARSE
from .evolution import COLUMNS
from .learner import Learner
from .network import Network
from .noise import MASK
from .rounding import ROUNDINGS
from .rules.es import COEFFICIENT_WIDTH, VOTE_WIDTH
from .settings import Settings

SIZES = (16, 4096)                      # records of a ring, least and most
LAST_BIT, LAYERS_LSB = COEFFICIENT_WIDTH, 16
# Settings in lane 1: lsb, width.
FIELDS = {"sparse": (9, 2), "rank1": (11, 1), "kernel": (12, 1), "rounding": (13, 3)}
LANES = 3


def check_size(records: int) -> int:
    """The size of a ring, or ValueError for one that it cannot have."""
    if not SIZES[0] <= records <= SIZES[1] or records & records - 1:
        raise ValueError(f"journal_records must be a power of two, {SIZES[0]} to {SIZES[1]}, not "
                         f"{records}")
    return records


def slots(written: int, size: int) -> np.ndarray:
    """Slots of a ring in the order in which its records were written, the oldest kept first."""
    return np.arange(max(written - size, 0), written) % size


def unpack(words) -> np.ndarray:
    """Records int64 [n, columns] of words [n, 3]."""
    seed, rest, vote = (np.asarray(words, np.int64).reshape(-1, LANES) & MASK).T
    half = 1 << COEFFICIENT_WIDTH - 1
    coefficient = (rest % (2 * half) ^ half) - half
    return np.stack([
        seed, coefficient, rest >> LAST_BIT & 1, rest >> LAYERS_LSB,
        *[rest >> lsb & (1 << width) - 1 for lsb, width in FIELDS.values()],
        vote], 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Journal:
    """Records read out of a core, and what is needed to trust them.

    Parameters
    ----------
    network : str
        Digest of the network that the core was generated for.
    residual : int
    written : int
        Records that the core has written since reset.
    updates : int
        Updates that it has made since, by any rule.
    lost : bool
        Its count started over after an update, or the host wrote or restored weights.
    records : int64 [n, columns]
        The last of them, the oldest first, as in :class:`firmware_models.learner.State`.
    """
    network: str
    residual: int
    written: int
    updates: int
    lost: bool
    records: np.ndarray

    @property
    def numbers(self) -> np.ndarray:
        """Number of each record, counted from reset."""
        return np.arange(self.written - len(self.records), self.written)

    def extended(self, later: "Journal") -> "Journal":
        """`later`, with the records from here that its core no longer kept.

        What was overwritten between the two is missing; :func:`check` then finds the gap.
        """
        oldest = later.written - len(later.records)
        mine = self.records[self.numbers < oldest]
        if later.written < self.written or self.written < oldest:
            return later
        return replace(later, records=np.concatenate([mine, later.records]))

    def to_json(self) -> str:
        """The journal as text, with a SHA-256 over what it says."""
        content = vars(self) | {"columns": COLUMNS, "records": self.records.tolist()}
        return json.dumps(content | {"sha256": _digest(content)}) + "\n"


def from_json(text: str) -> Journal:
    """What :meth:`Journal.to_json` wrote.

    Raises
    ------
    ValueError
        For anything else.
    """
    try:
        content = json.loads(text)
        if content.pop("sha256") != _digest(content):
            raise ValueError("checksum does not match")
        if content.pop("columns") != list(COLUMNS):
            raise ValueError("its records have other columns")
        records = np.array(content.pop("records"), np.int64).reshape(-1, len(COLUMNS))
        return Journal(**content, records=records)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"not a journal, or corrupt ({error}); read it from the core again") \
            from None


def _digest(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check(journal: Journal, network: Network, residual: int) -> None:
    """ValueError unless the journal leads from the start weights of a network to those of its core.

    `network` and `residual` are what the weights are to be rebuilt with.
    """
    kept, records = len(journal.records), journal.records
    if journal.network != network.digest():
        raise ValueError("the journal is of a core for another network; name the one with digest "
                         f"{journal.network[:12]}")
    if journal.residual != residual:
        raise ValueError(f"the journal is of a core with {journal.residual} residual bits, not "
                         f"{residual}; name that core")
    if journal.lost:
        raise ValueError("the core was reset after an update, or its weights were written or "
                         "restored, so that the journal does not lead from the start weights to "
                         "them; power the core up and learn anew")
    if kept != journal.written:
        raise ValueError(f"the core wrote {journal.written} records and the journal has "
                         f"{kept}; read it more often, or build with more --journal-records")
    trainable = sum(1 << index for index in network.trainable)
    for at, (seed, coefficient, last, layers, *settings) in enumerate(records.tolist()):
        if not 1 <= seed <= MASK or abs(coefficient) >= 1 << COEFFICIENT_WIDTH - 1 \
                or last not in (0, 1) or not layers or layers & ~trainable \
                or not all(0 <= value < limit for value, limit in zip(
                    settings, (len(SPARSE), 2, 2, len(ROUNDINGS) - 1, 1 << VOTE_WIDTH),
                    strict=True)) \
                or at and not records[at - 1, 2] and (records[at - 1, 3:] != records[at, 3:]).any():
            raise ValueError(f"record {at} cannot come from this core; read the journal again")
    if kept and not records[-1, 2]:
        raise ValueError(f"the update of record {kept - 1} is torn: its last record is missing; "
                         "read the journal while the core is not busy")
    if (closed := int(records[:, 2].sum())) != journal.updates:
        raise ValueError(f"the core made {journal.updates} updates and the journal has {closed}; "
                         "updates by node probes are in no journal")


def updates(records: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, Settings]]:
    """Seeds and coefficients of each closed update, and the settings that it depends on."""
    ends = np.flatnonzero(records[:, 2]) + 1
    for one in np.split(records, ends)[:len(ends)]:
        mask, sparse, rank1, kernel, rounding, vote = one[0, 3:].tolist()
        yield one[:, 0], one[:, 1], Settings(
            rule="es", layers=tuple(i for i in range(mask.bit_length()) if mask >> i & 1),
            sparse=SPARSE[sparse], rank1=bool(rank1), kernel=bool(kernel),
            rounding=ROUNDINGS[rounding], vote=vote)


def replay(network: Network, residual: int, records: np.ndarray) -> tuple[dict, dict]:
    """Masters after the updates of `records`, from the network's own weights on.

    Parameters
    ----------
    network : Network
        With the trainable layers and the weights that the core was generated with.
    residual : int
    records : int64 [n, columns]
        All since the start, as in :class:`firmware_models.learner.State`. Records behind the last
        closed update have changed no weight.

    Returns
    -------
    weights, biases : dict of stage index to int64 arrays [n_out, n_in] and [n_out]
        Masters of the trainable stages.
    """
    learner = Learner(network, Settings(rule="es"), residual)
    state = learner.state
    for seeds, coefficients, settings in updates(records):
        state = learner.evolution.replayed(state, settings, seeds, coefficients)
    return state.weights, state.biases
