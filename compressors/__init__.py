"""Compressors: each decides edits of a model; `models.edits` performs them."""
