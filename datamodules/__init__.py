"""Datasets as they lie on disk: samples in a fixed order, in the size a model asks for."""
