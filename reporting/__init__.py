"""Results for people: tables, and the mirror in wandb; reads the store alone."""
