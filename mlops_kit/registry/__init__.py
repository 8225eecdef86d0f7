"""Models and their versions in MLflow, and scoring rows with them."""
