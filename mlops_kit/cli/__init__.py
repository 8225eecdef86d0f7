"""The command line: ``mlops COMMAND``."""

from mlops_kit.cli.application import main

__all__ = ["main"]
