"""Simulation of generated cores: they are met as Verilog and manifest, as any user meets them."""
