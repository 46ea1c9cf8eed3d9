"""Golden model of standardized errors: each node's row of weights gets a step of the same size.

    err_j = sgn(err_j) * 256 if |err_j| >= threshold else 0

The paper's update is (g - mean(g)) / std(g), row by row. With the delta rule's g_ij = err_j * x_i,
|err_j| cancels out of it: what is left is sgn(err_j) * (x_i - mean(x)) / std(x), the same for a
small error and for a large one. A sign as large as a whole error takes its place; the rate is in
`head_shift`. Errors below the threshold are no errors: for the many classes that a sample is not,
and is not taken for, a probability of a few 1/256 would count as much as the error that matters.
Mean and standard deviation of the inputs, as a power of two, were measured too and change nothing:
docs/rules/delta.md.

Source: Deutel, Hannig, Mutschler and Teich, arXiv 2407.10734v2, gradient standardization.
"""
import numpy as np

ONE = 256                       # of an error in 1/256: as large as errors get


def standardize(errors, threshold: int) -> np.ndarray:
    """Errors [...] in 1/256 as signs of the size 256.

    Parameters
    ----------
    errors : int64
    threshold : int
        Least magnitude that counts, 1 to 256; 0 leaves the errors as they are.
    """
    errors = np.asarray(errors, np.int64)
    if not threshold:
        return errors
    return np.where(np.abs(errors) >= threshold, ONE * np.sign(errors), 0)
