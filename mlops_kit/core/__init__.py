"""The lowest layer: errors, results, formatting, files and what a stage depends on."""
