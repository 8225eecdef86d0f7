"""Everything that commands print.

Results go to standard output, errors to standard error; with ``--json`` so does progress.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from typing import TYPE_CHECKING, Any

import typer

from mlops_kit.core.formatting import align_columns
from mlops_kit.core.progress import ProgressPrinter

if TYPE_CHECKING:
    from mlops_kit.cli.doctor import DoctorFinding
    from mlops_kit.pipeline.failed_checks import FailedCheck
    from mlops_kit.pipeline.params import ResolvedParameter
    from mlops_kit.pipeline.plan import PlannedStage
    from mlops_kit.pipeline.report_views import RunDecision
    from mlops_kit.project.loader import Project
    from mlops_kit.project.run_manifest import RunManifest

_SUMMARIZED_STAGES = ("review", "deploy", "monitor", "retrain")
_PARAMETER_COLUMNS = ("parameter", "type", "default", "value", "from", "allowed", "description")


def print_text(text: str = "") -> None:
    """Print text."""
    typer.echo(text)


def print_error(text: str) -> None:
    """Print an error message."""
    typer.echo(text, err=True)


def print_json(value: Any, indent: int | None = None) -> None:
    """Print plain values as JSON."""
    typer.echo(json.dumps(value, indent=indent, ensure_ascii=indent is None))


def open_progress(as_json: bool = False) -> AbstractContextManager[ProgressPrinter]:
    """Return the progress reporter of a command; it keeps standard output free for JSON."""
    return closing(ProgressPrinter(sys.stderr if as_json else sys.stdout))


def report_run_outcome(project: Project, manifest: RunManifest, as_json: bool = False) -> None:
    """Print how a run ended.

    Parameters
    ----------
    project : Project
        The project.
    manifest : RunManifest
        The manifest of the run.
    as_json : bool
        Whether to print the manifest.

    Raises
    ------
    KitError
        If the run failed or waits for approval.
    """
    from mlops_kit.pipeline import failed_checks, runner
    from mlops_kit.project import loader

    folder = project.reports_folder / manifest.run
    failed = failed_checks.list_failed_checks(folder, manifest)
    verdicts_by_stage = failed_checks.read_verdicts_by_stage(folder, manifest)
    counts = failed_checks.describe_check_counts(verdicts_by_stage)
    if as_json:
        result = {
            "is_up_to_date": manifest.is_up_to_date,
            "failed_checks": [check.to_json_dict() for check in failed],
        }
        print_json(manifest.to_json_dict() | result)
    else:
        page = loader.shorten_path(folder / "index.html")
        print_run_summary(manifest, counts, failed, str(page))
    error = runner.find_run_error(manifest, loader.format_project_option(project))
    if error is not None:
        raise error


def print_run_summary(
    manifest: RunManifest, check_counts: str, failed_checks: Sequence[FailedCheck], page: str
) -> None:
    """Print the status of a run, the results of its stages, its checks, and where its report is.

    A stage that the run was not asked for is left out: its result is that of an earlier run.
    """
    prefix = "Nothing to do: " if manifest.is_up_to_date else ""
    print_text(f"\n{prefix}run {manifest.run}{_format_sample(manifest)}: {manifest.status}")
    for stage in _SUMMARIZED_STAGES:
        entry = manifest.get_stage(stage)
        if entry.is_selected and entry.sentence:
            print_text(f"  {stage}: {entry.sentence_with_origin}")
    if manifest.branches:
        _print_branches(manifest)
    if check_counts:
        print_text(f"Checks: {check_counts}")
    if failed_checks:
        print_text(f"Failed checks (all checks with limits and hints: {page}#checks):")
    for check in failed_checks:
        print_text(f"  ▲ {check.describe()}")
    print_text(f"Report: {page}")


def _format_sample(manifest: RunManifest) -> str:
    """Return a note on the number of rows of a trial run; empty for other runs."""
    if not manifest.sample:
        return ""
    return f" (sample of {manifest.sample:,} rows)"


def _print_branches(manifest: RunManifest) -> None:
    """Print the branches of a run as a table."""
    from mlops_kit.pipeline import report

    columns, rows = report.build_branch_table(manifest)
    lines = [columns]
    for row in rows:
        lines.append([_format_branch_value(value) for value in row])
    print_text(align_columns(lines))


def _format_branch_value(value: Any) -> str:
    """Return a value of a branch as text."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_run_status(
    manifest: RunManifest, check_counts: str, decision: RunDecision | None = None
) -> None:
    """Print the status of a run and of each of its stages, how its checks ended, and a decision."""
    started = manifest.started[:16]  # to the minute
    print_text(
        f"run {manifest.run} of {manifest.project}{_format_sample(manifest)}: "
        f"{manifest.status}, started {started} UTC"
    )
    width = max(map(len, manifest.stages))
    for name, entry in manifest.stages.items():
        print_text(f"  {name:<{width}}  {entry.status_text:<13} {entry.summary}")
    if decision is not None:
        print_text(f"Decision: {decision.sentence}")
    if check_counts:
        print_text(f"Checks: {check_counts}")


def print_plan(
    planned_stages: Sequence[PlannedStage],
    parameters: dict[str, dict[str, ResolvedParameter]],
) -> None:
    """Print what would be done with each stage, why, and with which parameters."""
    from mlops_kit.pipeline import params

    width = max(len(planned.stage) for planned in planned_stages)
    for planned in planned_stages:
        action = str(planned.action)
        condition = ""
        if planned.action == "depends":
            action = "run?"
            condition = "if its inputs change: "
        print_text(f"{planned.stage:<{width}}  {action:<5} {condition}{planned.summary}")
        resolved = parameters[planned.stage]
        if resolved:
            print_text(f"{'':<{width}}  {params.format_value_origins(resolved)}")


def encode_plan(
    planned_stages: Sequence[PlannedStage],
    parameters: dict[str, dict[str, ResolvedParameter]],
) -> list[dict[str, Any]]:
    """Return a plan as plain values."""
    from mlops_kit.pipeline import param_types

    encoded = []
    for planned in planned_stages:
        values = {
            name: {"value": param_types.encode_value(resolved.value), "from": resolved.origin}
            for name, resolved in parameters[planned.stage].items()
        }
        encoded.append(
            {
                "stage": planned.stage,
                "action": planned.action,
                "reasons": list(planned.reasons),
                "origin": planned.origin.name if planned.origin else None,
                "params": values,
            }
        )
    return encoded


def print_parameters(parameters: dict[str, dict[str, ResolvedParameter]]) -> None:
    """Print the parameters of stages as a table."""
    from mlops_kit.pipeline import params

    rows = [_PARAMETER_COLUMNS]
    for stage, resolved_by_name in parameters.items():
        for resolved in resolved_by_name.values():
            declared = resolved.parameter
            row = (
                f"{stage}.{declared.name}",
                declared.type or "any",
                repr(declared.default),
                repr(resolved.value),
                resolved.origin,
                params.describe_allowed_values(resolved),
                declared.description,
            )
            rows.append(row)
    print_text(align_columns(rows))


def encode_parameters(parameters: dict[str, dict[str, ResolvedParameter]]) -> Any:
    """Return the parameters of stages as plain values."""
    from mlops_kit.pipeline import param_types

    encoded = []
    for stage, resolved_by_name in parameters.items():
        for resolved in resolved_by_name.values():
            declared = resolved.parameter
            record = {
                "stage": stage,
                "name": declared.name,
                "type": declared.type,
                "default": _encode_parameter_value(declared.default),
                "value": _encode_parameter_value(resolved.value),
                "origin": resolved.origin,
                "min": resolved.min,
                "max": resolved.max,
                "choices": resolved.choices,
                "description": declared.description,
            }
            encoded.append(param_types.encode_value(record))
    return encoded


def _encode_parameter_value(value: Any) -> Any:
    """Return a value of a parameter; the code of a default that the notebook computes."""
    from mlops_kit.pipeline.param_types import ComputedDefault

    return value.source if isinstance(value, ComputedDefault) else value


def print_finding(finding: DoctorFinding) -> None:
    """Print what a check of ``mlops doctor`` found."""
    mark = "●" if finding.passed else "▲"
    print_text(f"{mark} {finding.check_name}: {finding.sentence}")
