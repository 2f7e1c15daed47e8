"""Attacks: views that also need a model and labels, `(model, images, labels, ids) -> images`.

All work on images in [0, 1]; whatever normalisation there is happens inside the model. An attack
is named like a view, `pgd_8`, and its records are records like any others.
"""
