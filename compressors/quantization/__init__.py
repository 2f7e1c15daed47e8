"""Recipes that spend fewer bits on a number."""
