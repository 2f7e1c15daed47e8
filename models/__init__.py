"""Classifiers: how they are built, loaded, identified and trained."""
