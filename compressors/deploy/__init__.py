"""Recipes that hand a model to another runtime, for the slot `then`."""
