"""The two rules that one circuit serves are the same sum."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_models import noise
from firmware_models.rules import es, qzo


def test_gradient_by_hand():
    z = [[1, -1, 1], [1, 1, -1]]
    np.testing.assert_array_equal(qzo.gradient([5, -3], z), [0, -2, 2])
    np.testing.assert_array_equal(qzo.gradient([5, 0], z), [1, -1, 1])


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=qzo.M_MAX),
       st.integers(1, noise.MASK), st.integers(0, 7))
def test_qzo_is_es_with_sign_fitness(deltas, seed, lr_shift):
    seeds = [seed]
    while len(seeds) < len(deltas):
        seeds.append(noise.next_seed(seeds[-1]))
    z, _ = noise.probe(seeds, 0, 4, 6, 6)
    change = np.tensordot(es.coefficient(es.fitness(deltas, "sign"), lr_shift), z, 1)
    # The coefficient of a sign has 8 bits: 128 is clipped to 127.
    step = min(2 ** (7 - lr_shift), 127)
    np.testing.assert_array_equal(change, step * qzo.gradient(deltas, z))


@pytest.mark.parametrize("deltas", [[1, 2, 3], [-5, -5, 9], [0, 0, 0]])
def test_no_rule_moves_without_a_difference(deltas):
    """Rank fitness adds up to 0, and equal differences move nothing."""
    assert es.fitness(deltas, "rank").sum() == 0
    assert not es.fitness([4] * 3, "rank").any() and not es.fitness([0] * 3, "sign").any()
