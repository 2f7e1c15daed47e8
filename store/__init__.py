"""Runs, cells and records on disk, and queries over them; imports no torch."""
