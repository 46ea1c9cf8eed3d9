"""The specification: integer golden models of inference, learning and cycle counts.

numpy alone; what is compiled, the twins for long runs among it, takes numba.
"""
