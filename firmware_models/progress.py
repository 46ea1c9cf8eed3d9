"""Golden model of the rate decay: after every `period` updates the learning rate halves."""
DECAYS_MAX = 15


def decay(decays: int, count: int, period: int) -> tuple[int, int]:
    """Halvings and updates since the last one, after one more update; `period` 0 is for never."""
    if not period:
        return decays, count
    count += 1
    return (min(decays + 1, DECAYS_MAX), 0) if count == period else (decays, count)
