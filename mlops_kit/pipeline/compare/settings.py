"""Settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlops_kit.pipeline import fingerprint
from mlops_kit.pipeline.compare.records import NOT_THERE, ComparisonRow, RunSide
from mlops_kit.pipeline.compare.values import (
    collect_traced_values,
    compare_values,
    keep_common_names,
)
from mlops_kit.project import run_folder, run_manifest
from mlops_kit.project.config.legacy import rename_settings


def compare_parameters(a: RunSide, b: RunSide) -> Iterator[ComparisonRow]:
    """Parameters of stages."""
    yield from compare_values(
        "parameters",
        *(
            {f"{s}.{n}": v for s, e in m.stages.items() for n, v in e.params.items()}
            for _, m, _ in (a, b)
        ),
    )


def compare_settings(a: RunSide, b: RunSide) -> Iterator[ComparisonRow]:
    """Settings as mlops.yaml and the command line gave them, and of the rest those that stages of both runs have read."""

    def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
        for key, value in values.items():
            yield from (
                flat(value, f"{prefix}{key}.")
                if isinstance(value, dict) and value
                else [(f"{prefix}{key}", value)]
            )

    traced = collect_traced_values(a, b, "settings")
    used = keep_common_names(*(rename_settings(dict(flat(values))) for values in traced))
    yield from compare_values(
        "settings",
        *(
            {**dict(flat(run_folder.read_config_record(side[0]))), **u}
            for side, u in zip((a, b), used, strict=True)
        ),
        absent="the default",
    )


def compare_environments(a: RunSide, b: RunSide) -> Iterator[ComparisonRow]:
    """Versions of packages and of Python, and environment variables (that they differ, not what they hold)."""
    pythons = [
        " ".join(
            sorted(
                {
                    e.dependencies.python
                    for e in m.stages.values()
                    if e.dependencies is not None and e.dependencies.python
                }
            )
        )
        for _, m, _ in (a, b)
    ]
    versions = [
        {**m.packages, **u, **({"Python": p} if all(pythons) else {})}
        for (_, m, _), u, p in zip(
            (a, b),
            keep_common_names(*collect_traced_values(a, b, "packages")),
            pythons,
            strict=True,
        )
    ]
    yield from compare_values("packages", *versions)
    for row in compare_values("environment", *collect_traced_values(a, b, "env")):
        yield ComparisonRow(row.section, row.name, "", "", False, "another value")


def compare_used_files(a: RunSide, b: RunSide) -> Iterator[ComparisonRow]:
    """Modules and files that the stages used."""
    found = [
        fingerprint.get_file_hashes(run_manifest.StageDependencies(files=f, modules=m))
        for f, m in zip(
            collect_traced_values(a, b, "files"),
            collect_traced_values(a, b, "modules"),
            strict=True,
        )
    ]
    yield from compare_values(
        "modules and files",
        *({n: h[:12] if len(str(h)) == 64 else h for n, h in side.items()} for side in found),
    )


def compare_stage_statuses(a: RunSide, b: RunSide) -> Iterator[ComparisonRow]:
    """How each stage ended, and its seconds (which differ from run to run and are not judged)."""
    for stage in dict.fromkeys([*a[1].stages, *b[1].stages]):
        old, new = (m.stages.get(stage) for _, m, _ in (a, b))
        before, now = _describe_stage_end(old), _describe_stage_end(new)
        yield ComparisonRow(
            "stages",
            stage,
            before,
            now,
            old is not None
            and new is not None
            and ((old.is_completed and new.is_completed) or old.status == new.status),
        )


def _describe_stage_end(entry: run_manifest.StageEntry | None) -> str:
    """Return how a stage ended and how long it took."""
    if entry is None:
        return NOT_THERE
    if entry.seconds is None:
        return entry.status_text
    return f"{entry.status_text}, {entry.seconds:.0f} s"
