"""Golden model of an input prompt: a vector that learns and is added to the features.

x' = clip(x + p) to the range of the features, whatever their own overflow is. p is deployed from
masters as weights are (:mod:`firmware_models.weight_memory`). It has a sign and one bit more than
the features: it can move any of them to any value. It starts at 0, where x' = x.

To everything that learns, the prompt is a layer of one output whose "weights" are p: the last of
:attr:`firmware_models.network.Network.parts`. In a probe, p with its noise is clipped to its own
range first. The one bias that such a layer has is in no formula: it gets noise, is updated and
read back with the others, and changes nothing.

Source: Feng et al. 2024, arXiv 2411.04036, for a visual prompt trained by forward passes alone;
Bahng et al. 2022, arXiv 2203.17274, for one that is added to the input.
"""
import numpy as np

from .formats import Fixed
from .network import Network


def prompted(x, p, features: Fixed) -> np.ndarray:
    """Features that the first layer sees.

    Parameters
    ----------
    x : int array [..., n_in]
        Codes of the format `features`.
    p : int array [..., n_in]
        Codes of the prompt, which have the features' binary point.

    Returns
    -------
    int64 array [..., n_in]
    """
    return np.clip(np.asarray(x, np.int64) + p, features.min, features.max)


def check_rule(network: Network, rule: str) -> None:
    """ValueError if `network` has a prompt and `rule` is "np", which knows of none."""
    if network.prompt is not None and rule == "np":
        raise ValueError(f"{network.name}: a prompt learns by rule es; for rule np leave it out")
