"""Writes the C sources of a network that trains in integers."""
import shutil
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np

from firmware_models.fqt.integer import RESIDUAL_BITS, Settings, State
from firmware_models.fqt.layers import Layer
from firmware_models.loss import LOG_TABLE

from ..errors import HwgenError
from .memory import WORD, buffers_of, place
from .state import layout_of, pack

SOURCES = Path(__file__).parent / "c"
COPIED = ("Makefile", "geometry.h", "kernels.h", "loss.h", "partial_updates.c",
          "partial_updates.h", "pool.h", "storage.c", "storage.h", "training.c", "training.h",
          "board/board.ld", "board/main.c", "board/start.c")
WIDTH = 96
KERNEL_ROWS = 16            # pieces_t of geometry.h


@dataclass
class _Item:
    """What the templates say of a layer."""
    layer: Layer
    reciprocal: int
    input: int
    output: int | None
    errors: int | None
    behind: int | None
    number: int = 0
    state: object = None
    weights: str = ""
    biases: str = ""


def rows_of(numbers) -> str:
    """Numbers as lines of a C initialiser."""
    lines, line = [], ""
    for number in np.asarray(numbers).ravel():
        text = f"{int(number)},"
        if len(line) + len(text) > WIDTH:
            lines.append(line)
            line = ""
        line += text
    return "\n".join([*lines, line])


def _check(layers) -> None:
    if not any(layer.trainable for layer in layers):
        raise HwgenError("no layer trains; make one trainable=True")
    for layer in layers:
        if layer.kernel[0] > KERNEL_ROWS:
            raise HwgenError(f"{layer.name}: a kernel of {layer.kernel[0]} rows; the firmware takes"
                             f" {KERNEL_ROWS} at most, use more layers of smaller ones")
        if max(layer.columns, layer.rows, *layer.shape_in) >= 1 << 16:
            raise HwgenError(f"{layer.name}: {layer.rows} rows of {layer.columns} weights; the "
                             "firmware counts both in 16 bits, use a smaller layer")


def generate(layers, state: State, folder, *, settings: Settings | None = None,
             title: str = "network") -> dict:
    """Write the C sources of a network into a folder.

    Parameters
    ----------
    layers : sequence of Layer
    state : State
        Weights to begin with.
    folder : path
    settings : Settings, optional
        How it trains until the firmware changes `net_settings`; `standardize` cannot be switched
        on later, for it needs memory.
    title : str

    Returns
    -------
    dict
        "arena_bytes", "state_bytes" and the number of "weights" that train.

    Raises
    ------
    HwgenError
        For a network that does not train, or a layer that the firmware has no room for.
    """
    _check(layers)
    settings = settings or Settings()
    folder = Path(folder)
    (folder / "board").mkdir(parents=True, exist_ok=True)
    first = min(n for n, layer in enumerate(layers) if layer.trainable)
    trained = [layer for layer in layers if layer.trainable]
    # A row's gradient, in words, or what kernels see at two positions, in half words; dense layers
    # have one position, and need their gradient for its mean alone.
    row = WORD * max(layer.columns if layer.kind != "dense" or settings.standardize
                     else -(-layer.columns // 2) for layer in layers if layer.is_linear)
    magnitudes = WORD * max(layer.rows for layer in layers[first:])
    at, arena = place(buffers_of(layers, first=first, scratch=row + magnitudes))

    items = []
    for n, layer in enumerate(layers):
        last = n == len(layers) - 1
        items.append(_Item(
            layer=layer, reciprocal=min(round((1 << 16) / layer.columns), (1 << 16) - 1),
            input=at[f"input{n}"], output=None if last else at[f"input{n + 1}"],
            errors=None if n < first else at["logits" if last else f"behind{n + 1}"],
            behind=at.get(f"behind{n}")))
    linear = [item for item in items if item.layer.is_linear]
    for number, item in enumerate(linear):
        item.number, item.state = number, state.layers[item.layer.name]
        master = item.state.master
        item.weights = rows_of(master if item.layer.trainable else master >> RESIDUAL_BITS)
        item.biases = rows_of(item.state.bias)

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(SOURCES), autoescape=False,
                                     undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    context = dict(
        title=title, items=items, linear=linear,
        trained=[item for item in linear if item.layer.trainable], first=first,
        arena_bytes=arena, logits=at["logits"], row=at["scratch"],
        magnitudes=at["scratch"] + row, settings=settings, samples=state.samples,
        state_bytes=len(pack(layers, state)), layout=layout_of(layers, state),
        means="" if state.mean is None else rows_of(state.mean),
        log_table=rows_of(LOG_TABLE), inputs=layers[0].n_in, classes=layers[-1].rows)
    for name in ("network.h", "network.c"):
        (folder / name).write_text(environment.get_template(f"{name}.j2").render(context))
    for name in COPIED:
        shutil.copyfile(SOURCES / name, folder / name)
    return {"arena_bytes": arena, "state_bytes": len(pack(layers, state)),
            "weights": sum(layer.rows * layer.columns for layer in trained)}
