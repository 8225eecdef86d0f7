"""Comparison of what two runs were given and used, and of how their stages ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from mlops_kit.pipeline import fingerprint
from mlops_kit.pipeline.compare.records import NOT_THERE, ComparisonRow, Difference, RunSide
from mlops_kit.pipeline.compare.values import (
    collect_recorded_values,
    compare_values,
    keep_common_names,
)
from mlops_kit.project.config.legacy import rename_settings
from mlops_kit.project.run_folder import read_config_record
from mlops_kit.project.run_manifest import RunManifest, StageDependencies, StageEntry

_HASH_CHARACTERS = 64
_SHOWN_HASH_CHARACTERS = 12


def compare_parameters(old: RunSide, new: RunSide) -> Iterator[ComparisonRow]:
    """Yield the parameters of stages that differ."""
    yield from compare_values(
        "parameters",
        _collect_parameters(old.manifest),
        _collect_parameters(new.manifest),
    )


def _collect_parameters(manifest: RunManifest) -> dict[str, Any]:
    """Return the parameters of all stages as ``stage.name``."""
    parameters = {}
    for stage, entry in manifest.stages.items():
        for name, value in entry.params.items():
            parameters[f"{stage}.{name}"] = value
    return parameters


def compare_settings(old: RunSide, new: RunSide) -> Iterator[ComparisonRow]:
    """Yield the settings that differ.

    These are the settings given in ``mlops.yaml`` and on the command line; of the others only those
    that stages of both runs have read.
    """
    old_used, new_used = keep_common_names(
        *(
            rename_settings(_flatten_settings(values))
            for values in collect_recorded_values(old, new, "settings")
        )
    )
    old_settings = _flatten_settings(read_config_record(old.folder)) | old_used
    new_settings = _flatten_settings(read_config_record(new.folder)) | new_used
    yield from compare_values("settings", old_settings, new_settings, absent="the default")


def _flatten_settings(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by their dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            flat |= _flatten_settings(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def compare_environments(old: RunSide, new: RunSide) -> Iterator[ComparisonRow]:
    """Yield the versions of packages and of Python and the environment variables that differ.

    Of an environment variable only that it differs is shown, not its value.
    """
    old_used, new_used = keep_common_names(*collect_recorded_values(old, new, "packages"))
    old_versions = old.manifest.packages | old_used
    new_versions = new.manifest.packages | new_used
    old_python = _list_python_versions(old.manifest)
    new_python = _list_python_versions(new.manifest)
    if old_python and new_python:
        old_versions = old_versions | {"Python": old_python}
        new_versions = new_versions | {"Python": new_python}
    yield from compare_values("packages", old_versions, new_versions)
    variables = collect_recorded_values(old, new, "env")
    for row in compare_values("environment", *variables):
        yield replace(
            row,
            old="",
            new="",
            explanation="another value",
        )


def _list_python_versions(manifest: RunManifest) -> str:
    """Return the Python versions with which the stages of a run were executed."""
    versions = {
        entry.dependencies.python
        for entry in manifest.stages.values()
        if entry.dependencies is not None
    }
    return " ".join(sorted(filter(None, versions)))


def compare_used_files(old: RunSide, new: RunSide) -> Iterator[ComparisonRow]:
    """Yield the modules and files that stages of both runs used and that differ."""
    old_files, new_files = collect_recorded_values(old, new, "files")
    old_modules, new_modules = collect_recorded_values(old, new, "modules")
    yield from compare_values(
        "modules and files",
        _shorten_hashes(StageDependencies(files=old_files, modules=old_modules)),
        _shorten_hashes(StageDependencies(files=new_files, modules=new_modules)),
    )


def _shorten_hashes(dependencies: StageDependencies) -> dict[str, str]:
    """Return the hashes of files and modules, shortened; other marks as they are."""
    shortened = {}
    for name, content_hash in fingerprint.get_file_hashes(dependencies).items():
        is_hash = len(content_hash) == _HASH_CHARACTERS
        shortened[name] = content_hash[:_SHOWN_HASH_CHARACTERS] if is_hash else content_hash
    return shortened


def compare_stage_statuses(old: RunSide, new: RunSide) -> Iterator[ComparisonRow]:
    """Yield how each stage ended; that it took another time is not a difference."""
    for stage in dict.fromkeys([*old.manifest.stages, *new.manifest.stages]):
        old_entry = old.manifest.stages.get(stage)
        new_entry = new.manifest.stages.get(stage)
        yield ComparisonRow(
            "stages",
            stage,
            _describe_stage_end(old_entry),
            _describe_stage_end(new_entry),
            _compare_stage_ends(old_entry, new_entry),
        )


def _describe_stage_end(entry: StageEntry | None) -> str:
    """Return how a stage ended and how long it took."""
    if entry is None:
        return NOT_THERE
    if entry.seconds is None:
        return entry.status_text
    return f"{entry.status_text}, {entry.seconds:.0f} s"


def _compare_stage_ends(old: StageEntry | None, new: StageEntry | None) -> Difference:
    """Return whether a stage ended differently; a skipped stage has succeeded earlier."""
    if old is None or new is None:
        return Difference.DIFFERENT
    if old.status == new.status or (old.is_completed and new.is_completed):
        return Difference.NONE
    return Difference.DIFFERENT
