"""Weights rebuilt far from the core that learned them, from its start weights and its journal."""
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from driver import weights as checkpoint
from firmware_models import journal
from firmware_models.network import PROMPT

from . import example
from .errors import HwgenError


def run(manifest: Path, records: Path, output: Path, name: str | None = None) -> int:
    """Write the weights that a journal leads to; return how many updates it holds.

    Parameters
    ----------
    manifest : Path
        ``manifest.json`` of the core.
    records : Path
        ``journal.json`` that was read from it.
    output : Path
        An .npz file of :mod:`driver.weights`.
    name : str, optional
        Example whose weights the core started from; the one in the manifest by default.

    Raises
    ------
    HwgenError
        For a file that is missing or corrupt, and a journal that does not lead from the network's
        weights to those of the core.
    """
    text = _read(manifest, "name the manifest.json of the core")
    try:
        core = json.loads(text)
        digest, residual = core["digest"], core["residual"]
        name = name or core["network"]["name"]
        train = [stage["name"] for stage in core["stages"] if stage["trainable"]]
        train += [PROMPT] * ("prompt" in core)
        reuse = {stage["name"]: stage["reuse_factor"] for stage in core["stages"]}
        widths = {s["weight"]["width"] for s in core["stages"] if s["trainable"]}
    except (ValueError, TypeError, KeyError) as error:
        raise HwgenError(f"{manifest} is not a manifest ({error!r}); build the core again") \
            from None
    text = _read(records, "hwgen recover --save-journal writes one")
    try:
        found = journal.from_json(text)
    except ValueError as error:
        raise HwgenError(f"{records}: {error}") from None
    with TemporaryDirectory() as folder:
        # Where they were widened, all trainable layers have weights of as many bits.
        network, _ = example.prepare(name, Path(folder), train, reuse,
                                     widths.pop() if len(widths) == 1 else None)
    if network.digest() != digest:
        raise HwgenError(f"{manifest} is of another network than {name} as it is here; name its "
                         "own in --example, or restore the checkpoint it was built from")
    try:
        journal.check(found, network, residual)
    except ValueError as error:
        raise HwgenError(f"{records}: {error}") from None
    try:
        checkpoint.save(output, core, *journal.replay(network, residual, found.records))
    except OSError as error:
        raise HwgenError(f"cannot write {output} ({error}); name another file") from None
    return found.updates


def _read(path: Path, remedy: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise HwgenError(f"cannot read {path} ({error}); {remedy}") from None
