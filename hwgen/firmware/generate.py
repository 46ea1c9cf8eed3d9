"""Writes the C sources of a network that trains."""
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import jinja2

from firmware_models.fqt.layers import Layer
from firmware_models.loss import LOG_TABLE

from ..errors import HwgenError
from . import integer, paper
from .memory import WORD, buffers_of, place
from .state import arithmetic_of, layout_of, pack
from .values import Values, literal, rows_of

FOLDER = Path(__file__).parent / "c"
COPIED = ("Makefile", "geometry.h", "kernels.h", "loss.h", "partial_updates.c",
          "partial_updates.h", "pool.h", "storage.c", "storage.h", "board/board.ld",
          "board/main.c", "board/start.c")
KERNEL_MAX = 255            # geometry.h keeps them in bytes


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
    values: Values | None = None
    gradients: int | None = None


def _check(layers) -> None:
    if not any(layer.trainable for layer in layers):
        raise HwgenError("no layer trains; make one trainable=True")
    for layer in layers:
        if max(*layer.kernel, *layer.strides) > KERNEL_MAX:
            raise HwgenError(f"{layer.name}: a kernel of {layer.kernel[0]}x{layer.kernel[1]}; the "
                             f"firmware takes sizes and strides of {KERNEL_MAX} at most, use more "
                             "layers of smaller ones")
        if max(layer.columns, layer.rows, *layer.shape_in) >= 1 << 16:
            raise HwgenError(f"{layer.name}: {layer.rows} rows of {layer.columns} weights; the "
                             "firmware counts both in 16 bits, use a smaller layer")
        behind = layer.rows * layer.kernel[0] * layer.kernel[1]
        if layer.is_linear and max(layer.positions, behind) > 1 << 16:
            raise HwgenError(f"{layer.name}: a sum of {max(layer.positions, behind)} products of "
                             f"two bytes on the way back; {1 << 16} fit 32 bits, use a smaller "
                             "layer")


def generate(layers, state, folder, *, settings=None, title: str = "network") -> dict:
    """Write the C sources of a network into a folder.

    Parameters
    ----------
    layers : sequence of Layer
    state : firmware_models.fqt.integer.State or firmware_models.fqt.paper.State
        Weights to begin with; its kind decides the arithmetic.
    folder : path
    settings : Settings of the same module, optional
        How it trains until the firmware changes `net_settings`. In integers `standardize` cannot
        be switched on later, for it needs memory.
    title : str

    Returns
    -------
    dict
        "arena_bytes", "state_bytes", "gradient_bytes" and the number of "weights" that train.

    Raises
    ------
    HwgenError
        For a network that does not train, or a layer that the firmware has no room for.
    ValueError
        Where the settings are those of another arithmetic.
    """
    _check(layers)
    arithmetic = arithmetic_of(state)
    settings = settings or arithmetic.Settings()
    if not isinstance(settings, arithmetic.Settings):
        raise ValueError(f"settings of {type(settings).__module__}; this state needs those of "
                         f"{arithmetic.Settings.__module__}")
    folder = Path(folder)
    (folder / "board").mkdir(parents=True, exist_ok=True)
    first = min(n for n, layer in enumerate(layers) if layer.trainable)
    trained = [layer for layer in layers if layer.trainable]
    floats = arithmetic.floats(layers, state)
    row = WORD * arithmetic.row_columns(layers, state, settings)
    magnitudes = 2 * WORD * max(layer.rows for layer in layers[first:])
    at, arena = place(buffers_of(layers, first=first, scratch=row + magnitudes, floats=floats))

    state_bytes = len(pack(layers, state))
    items = []
    for n, layer in enumerate(layers):
        last = n == len(layers) - 1
        items.append(_Item(
            layer=layer, reciprocal=min(round((1 << 16) / layer.columns), (1 << 16) - 1),
            input=at[f"input{n}"], output=None if last else at[f"input{n + 1}"],
            errors=None if n < first else at.get("logits" if last else f"behind{n + 1}"),
            behind=at.get(f"behind{n}")))
    linear = [item for item in items if item.layer.is_linear]
    gradients = 0
    for number, item in enumerate(linear):
        item.number = number
        item.values = arithmetic.values_of(item.layer, state.layers[item.layer.name])
        if arithmetic is paper and item.layer.trainable:
            item.gradients = gradients
            gradients += item.layer.rows * (item.layer.columns + 1)

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER), autoescape=False,
                                     undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.filters.update(rows_of=rows_of, literal=literal)
    in_order = [item for item in linear if item.layer.trainable]
    context = dict(
        title=title, header=arithmetic.HEADER, items=items, linear=linear, trained=in_order,
        # Whole words first, so that nothing is filled up between two layers.
        by_size=sorted(in_order, key=lambda item: item.values.weight_type != "float"),
        first=first, floats=floats if arithmetic is paper else None, gradients=gradients,
        arena_bytes=arena, logits=at["logits"], row=at["scratch"],
        magnitudes=at["scratch"] + row, settings=asdict(settings), samples=state.samples,
        state_bytes=state_bytes, layout=layout_of(layers, state),
        means=getattr(state, "mean", None), log_table=LOG_TABLE, inputs=layers[0].n_in,
        classes=layers[-1].rows)
    for name in ("network.h", "network.c"):
        (folder / name).write_text(environment.get_template(f"{name}.j2").render(context))
    # A folder may hold a network of the other arithmetic: all its C files are compiled.
    for name in {*integer.SOURCES, *paper.SOURCES} - {*arithmetic.SOURCES}:
        (folder / name).unlink(missing_ok=True)
    for name in (*COPIED, *arithmetic.SOURCES):
        shutil.copyfile(FOLDER / name, folder / name)
    return {"arena_bytes": arena, "state_bytes": state_bytes,
            "gradient_bytes": WORD * gradients,
            "weights": sum(layer.rows * layer.columns for layer in trained)}
