"""``python -m mlops_kit.cli``, the same as ``mlops``."""

from mlops_kit.cli import main

if __name__ == "__main__":
    main()
