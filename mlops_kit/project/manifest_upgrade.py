"""Translation of manifests that earlier versions stored.

To rename a field: raise ``SCHEMA_VERSION`` and translate the old name here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlops_kit.project.config.legacy import rename_settings

SCHEMA_VERSION = 2


def upgrade_manifest(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the field names of schema version 1."""
    manifest = dict(stored)
    if manifest.get("schema_version", 1) >= SCHEMA_VERSION:
        return manifest
    _rename_keys(
        manifest,
        {"born": "process_started", "apart": "branching_stages", "unrecorded": "mlflow_error"},
    )
    manifest["schema_version"] = SCHEMA_VERSION
    manifest["note"] = manifest.get("note") or ""
    manifest["stages"] = {
        name: _upgrade_stage_entry(entry) for name, entry in manifest.get("stages", {}).items()
    }
    branches = [dict(branch) for branch in manifest.get("branches", [])]
    for branch in branches:
        _rename_keys(branch, {"said": "error"})
    manifest["branches"] = branches
    return manifest


def _upgrade_stage_entry(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the field names of one stage's entry of schema version 1."""
    entry = dict(stored)
    _rename_keys(
        entry,
        {
            "why": "reasons",
            "parts": "code_origins",
            "trace": "dependencies",
            "peak": "peak_bytes",
        },
    )
    if entry.get("accepted"):
        accepted = dict(entry["accepted"])
        _rename_keys(accepted, {"by": "actor", "at": "accepted_at", "why": "reasons"})
        entry["accepted"] = accepted
    if entry.get("dependencies"):
        dependencies = dict(entry["dependencies"])
        modules = {name: dict(module) for name, module in dependencies.get("modules", {}).items()}
        for module in modules.values():
            _rename_keys(module, {"by": "imported_by"})
        dependencies["modules"] = modules
        dependencies["settings"] = rename_settings(dependencies.get("settings", {}))
        entry["dependencies"] = dependencies
    return entry


def _rename_keys(record: dict[str, Any], new_names: Mapping[str, str]) -> None:
    """Rename keys of a record in place."""
    for old, new in new_names.items():
        if old in record:
            record[new] = record.pop(old)
