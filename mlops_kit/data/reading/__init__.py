"""Reading tables from files: what a file holds, what was decided about it, what was rejected."""
