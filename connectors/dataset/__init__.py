"""Many results as one: the tables of a folder, read lazily, with labels from a CSV."""
