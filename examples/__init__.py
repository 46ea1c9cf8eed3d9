"""Example networks: how they are trained, and the integer checkpoints that ship with hwgen."""
