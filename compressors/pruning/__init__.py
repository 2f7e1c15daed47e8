"""Pruning: taking single weights or whole channels away."""
