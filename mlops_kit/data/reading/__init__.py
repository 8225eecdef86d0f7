"""Reading tables from files: what is in the file, what was decided about it, and what was rejected."""
