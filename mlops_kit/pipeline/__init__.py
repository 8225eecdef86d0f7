"""The pipeline: plan what has to run, execute notebooks, record and compare runs."""
