"""Looks at a network before anything is taken from it."""
