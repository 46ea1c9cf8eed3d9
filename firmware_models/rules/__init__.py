"""Learning rules: how the loss differences of a sample's probes become their coefficients."""
