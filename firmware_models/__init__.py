"""The specification: integer golden models of inference, learning and cycle counts (numpy only)."""
