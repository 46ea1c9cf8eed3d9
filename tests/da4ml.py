"""Tests that make constant logic need da4ml."""
from importlib.util import find_spec

import pytest

HAS_DA4ML = find_spec("da4ml") is not None
needs_da4ml = pytest.mark.skipif(not HAS_DA4ML, reason="needs the extra da")
