"""Recording: one pass of a model over a dataset view becomes records, one row a sample."""
