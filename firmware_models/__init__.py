"""The specification: integer golden models of inference, learning and cycle counts.

numpy alone; :mod:`firmware_models.fast`, the compiled twin for long runs, takes numba.
"""
