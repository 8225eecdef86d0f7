"""The stages of the chain: the notebooks' handle, and a package of functions for each stage.

A notebook begins with ``from mlops_kit import explore, open_stage``.
"""

from __future__ import annotations

from mlops_kit.stages.stage import Stage, open_stage

__all__ = ["Stage", "open_stage"]
