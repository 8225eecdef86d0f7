"""A project: its configuration, its run folders and the artifacts in them."""
