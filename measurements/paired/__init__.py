"""Paired comparisons of a compressed model with its baseline, on the same samples."""
