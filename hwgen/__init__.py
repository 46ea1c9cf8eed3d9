"""hwgen: hardware that learns, from quantized networks."""
