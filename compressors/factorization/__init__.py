"""Factorization: products of thin layers in the place of a thick one."""
