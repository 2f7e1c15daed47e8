"""Sweeps: the jobs of one command line, here or on a SLURM cluster, watched and resumed."""
