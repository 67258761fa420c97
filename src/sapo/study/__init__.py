"""What the study concludes from its scores: variance components, correlations, power."""
