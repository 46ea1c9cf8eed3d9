"""The arena of a firmware: where each tensor of a pass lies, planned before anything runs."""
from dataclasses import dataclass

WORD = 4


@dataclass(frozen=True)
class Buffer:
    """A tensor that is needed from one step of a pass to another, both included.

    Parameters
    ----------
    name : str
    size : int
        Bytes.
    first, last : int
        Steps: layer n forward is step n, layer n backward step 2 N - 1 - n of N layers.
    """
    name: str
    size: int
    first: int
    last: int

    def meets(self, other: "Buffer") -> bool:
        return self.first <= other.last and other.first <= self.last


def place(buffers) -> tuple[dict[str, int], int]:
    """Offsets by name, and the size of the arena, in bytes.

    The largest buffer first, each at the lowest offset at which it meets no other one in time.
    """
    placed = []
    for buffer in sorted(buffers, key=lambda b: (-b.size, b.name)):
        at = 0
        for offset, other in sorted(placed, key=lambda item: item[0]):
            if buffer.meets(other) and at + buffer.size > offset:
                at = max(at, offset + -(-other.size // WORD) * WORD)
        placed.append((at, buffer))
    size = max(offset + buffer.size for offset, buffer in placed)
    return {buffer.name: offset for offset, buffer in placed}, -(-size // WORD) * WORD


def buffers_of(layers, *, first: int, scratch: int, floats: int | None = None) -> list[Buffer]:
    """What the passes of a network need.

    Parameters
    ----------
    layers : sequence of firmware_models.fqt.layers.Layer
    first : int
        The first layer that trains.
    scratch : int
        Bytes that both passes need beside their tensors.
    floats : int, optional
        The first layer that reads float32 instead of bytes. None: the arithmetic is in integers
        alone; then errors pass pools on their way to the layer with weights before them, and need
        no place there.
    """
    n_layers = len(layers)
    end = 2 * n_layers - 1
    found = [Buffer("logits", WORD * layers[-1].rows, n_layers - 1, n_layers),
             Buffer("scratch", scratch, 0, end)]
    for n, layer in enumerate(layers):
        back = end - n
        width = WORD if floats is not None and n >= floats else 1
        last = back if floats is not None else end - _with_weights(layers, n)
        found.append(Buffer(f"input{n}", width * layer.n_in, n - 1, last if n >= first else n))
        if n <= first:
            continue
        if floats is None and layer.is_linear:
            found.append(Buffer(f"behind{n}", WORD * layer.n_in, back,
                                end - _with_weights(layers, n - 1)))
        elif floats is not None:
            width = WORD if layer.is_linear else width
            found.append(Buffer(f"behind{n}", width * layer.n_in, back, back + 1))
    return found


def _with_weights(layers, n: int) -> int:
    """The last layer with weights up to layer n; 0 where there is none."""
    return max((m for m in range(n + 1) if layers[m].is_linear), default=0)
