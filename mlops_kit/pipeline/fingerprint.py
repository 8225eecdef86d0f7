"""What a stage's result depends on, as one hash: equal fingerprint and intact outputs mean skip.

Counted: code cells in order (no markdown, outputs, ids), resolved parameters and config, the content
of what it read before, the package's and the project's own Python, the data contract, the source's
files, versions of what is installed, Python's minor version.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlops_kit.config import Project
from mlops_kit.pipeline import params
from mlops_kit.store import sha256, text_hash


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of everything installed, by name."""
    return {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}


def code(folder: Path) -> dict[str, str]:
    """The hash of each Python file below a folder."""
    return {str(p.relative_to(folder)): sha256(p) for p in sorted(folder.rglob("*.py")) if "__pycache__" not in p.parts}


def source_files(project: Project) -> dict[str, str]:
    """The hash of each local file that the source names; a dataset is covered by its version."""
    source = project.config.source
    if not isinstance(source, str) or source.startswith("dataset:") or "://" in source:
        return {}
    found = sorted(project.root.glob(source)) if not Path(source).is_absolute() else [Path(source)]
    # from the project's folder, so that it may move; two files of a glob may have one name
    return {str(p.relative_to(project.root) if p.is_relative_to(project.root) else p): sha256(p) for p in found if p.exists()}


def parts(project: Project, stage: str, values: dict[str, Any], inputs: dict[str, str]) -> dict[str, str]:
    """Each part of a stage's fingerprint by itself, so that a difference can be named."""
    config = project.config.model_dump(mode="json")
    config["stages"] = config["stages"][stage]
    contract = project.path(project.config.contract.file)
    own = {f: sha256(project.path(f)) for f in project.config.features if project.path(f).exists()}
    return {
        "code cells": text_hash([c["source"] for c in params.code_cells(project.notebook(stage))]),
        "parameters": text_hash(values),
        "config": text_hash(config),
        "inputs": text_hash(inputs),
        "mlops_kit": text_hash(code(Path(__file__).parent.parent)),
        "features": text_hash(own),
        "contract": sha256(contract) if contract.exists() else "none",
        "files": text_hash({f: sha256(project.path(f)) for f in project.config.stages[stage].files if project.path(f).exists()}),
        "source": text_hash(source_files(project)),
        "packages": text_hash(versions()),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }


def whole(found: dict[str, str]) -> str:
    """One hash of all parts."""
    return hashlib.sha256(text_hash(found).encode()).hexdigest()
