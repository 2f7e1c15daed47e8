"""Searches for how much each layer loses, all of them on one oracle."""
