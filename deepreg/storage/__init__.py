"""Results in files: what is written, how it is read, and what a reader checks."""
