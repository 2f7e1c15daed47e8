"""Measurements: pure functions, and thin classes that fetch their inputs and name the result."""
