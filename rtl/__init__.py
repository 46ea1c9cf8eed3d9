"""Amaranth components of the core, one per file, named as their golden models are."""
