"""Fully quantized training by backpropagation: the golden models of the Cortex-M firmware."""
