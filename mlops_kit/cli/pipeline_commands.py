"""``mlops run``, ``plan`` and ``params``: run the pipeline, or show what would be run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from mlops_kit.cli import output
from mlops_kit.cli.options import (
    AsOfOption,
    ForceOption,
    FromOption,
    JsonOption,
    OnlyOption,
    ParamOption,
    ProjectOption,
    SampleOption,
    ToOption,
    UntilOption,
    VerifyOption,
)

if TYPE_CHECKING:
    from mlops_kit.pipeline.params import ResolvedParameter
    from mlops_kit.project.loader import Project

_OPTIONS_ORIGIN = "the command line"  # where values come from, in ``mlops config`` and errors


class _RunRequest(NamedTuple):
    """The project with the values of the command line, and what is to be run."""

    project: Project
    stages: list[str]
    given: dict[str, dict[str, Any]]  # values of -p by stage and name
    quarantine_note: str  # which days mlops watch quarantined; empty if there are none


def _load_run_request(
    project_folder: str,
    param_options: list[str] | None,
    stage_range: tuple[str, str, str] = ("", "", ""),
    **settings: Any,
) -> _RunRequest:
    """Load the project and lay the options of the command line over its settings.

    Parameters
    ----------
    project_folder : str
        The value of ``--project``.
    param_options : list of str or None
        The values of ``-p``.
    stage_range : tuple of str
        The values of ``--from``, ``--to`` and ``--only``.
    **settings
        Settings by name; empty ones are left as they are.
    """
    from mlops_kit.db.day_quarantine import leave_out_quarantined_days
    from mlops_kit.pipeline import params, runner
    from mlops_kit.project import loader

    project = loader.load_project(project_folder or None)
    overrides = {name: value or None for name, value in settings.items()}
    project = project.with_values(_OPTIONS_ORIGIN, **overrides)
    stages = runner.select_stages(project, *stage_range)
    given = params.parse_parameter_options(param_options or [], list(project.config.stages))
    project, quarantine_note = leave_out_quarantined_days(project)
    return _RunRequest(project, stages, given, quarantine_note)


def _override_run_settings(project: Project, jobs: int | None, cold: bool) -> Project:
    """Lay ``--jobs`` and ``--cold`` over the settings of the section ``run``."""
    settings: dict[str, Any] = {}
    if jobs is not None:
        settings["jobs"] = jobs
    if cold:
        settings["kernels"] = "cold"
    current = project.config.run.model_dump()
    changed = {**current, **settings}
    if changed == current:
        return project
    return project.with_values(_OPTIONS_ORIGIN, run=changed)


def _resolve_parameters(request: _RunRequest) -> dict[str, dict[str, ResolvedParameter]]:
    """Return the parameters of the chosen stages by stage and name."""
    from mlops_kit.pipeline import params

    return {
        stage: params.resolve_parameters(request.project, stage, request.given.get(stage, {}))
        for stage in request.stages
    }


def run_command(
    project: ProjectOption = "",
    as_of: AsOfOption = "",
    until: UntilOption = "",
    param: ParamOption = None,
    first: FromOption = "",
    last: ToOption = "",
    only: OnlyOption = "",
    force: ForceOption = False,
    sample: SampleOption = 0,
    note: Annotated[str, typer.Option(help="Why this run is made")] = "",
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Largest number of stages and branches at the same time; default: one per core",
            min=0,
        ),
    ] = None,
    cold: Annotated[
        bool,
        typer.Option("--cold", help="Start each kernel from scratch, without shared imports"),
    ] = False,
    each: Annotated[
        list[str] | None,
        typer.Option(
            "--each",
            help=(
                "stage.name=A,B,C or seed=1,2,3: a branch for each value; "
                "if repeated, a branch for each combination"
            ),
        ),
    ] = None,
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="Run the remaining branches after one has failed"),
    ] = False,
    verify: VerifyOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run the stages that are not up to date."""
    from mlops_kit.pipeline import branches, runner

    request = _load_run_request(
        project, param, (first, last, only), as_of=as_of, until=until, sample=sample
    )
    _, stages, given, quarantine_note = request
    loaded = _override_run_settings(request.project, jobs, cold)
    grid = branches.parse_branch_grid(loaded, each or [])
    with output.open_progress(as_json) as progress:
        if quarantine_note:
            progress(f"note: {quarantine_note}")
        if grid:
            options = branches.BranchOptions(given, force, note, keep_going)
            manifest = branches.run_branches(loaded, stages, grid, options, progress)
        else:
            manifest = runner.run_pipeline(
                loaded, stages, given, progress, runner.RunOptions(force, note, verify)
            )
    output.report_run_outcome(loaded, manifest, as_json)


def plan_command(
    project: ProjectOption = "",
    as_of: AsOfOption = "",
    until: UntilOption = "",
    param: ParamOption = None,
    first: FromOption = "",
    last: ToOption = "",
    only: OnlyOption = "",
    force: ForceOption = False,
    sample: SampleOption = 0,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept",
            help="Mark the chosen stages as up to date although something has changed",
        ),
    ] = False,
    verify: VerifyOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what mlops run would do, and why.

    Nothing is run.
    """
    from mlops_kit.data import source
    from mlops_kit.pipeline import file_hashes, plan
    from mlops_kit.pipeline.scaffold import notebooks

    request = _load_run_request(
        project, param, (first, last, only), as_of=as_of, until=until, sample=sample
    )
    request = request._replace(project=source.resolve_cutoffs(request.project))
    parameters = _resolve_parameters(request)
    values = {
        stage: {name: parameter.value for name, parameter in resolved.items()}
        for stage, resolved in parameters.items()
    }
    if accept:
        _accept_stages(request, values)
    hashes = file_hashes.FileHashes(request.project, verify)
    planned_stages = plan.plan_stages(request.project, request.stages, values, force, hashes)
    if as_json:
        output.print_json(output.encode_plan(planned_stages, parameters))
    else:
        output.print_plan(planned_stages, parameters)
        if request.quarantine_note:
            output.print_text(f"note: {request.quarantine_note}")
        replaced = notebooks.list_replaced_notebooks(request.project)
        if replaced:
            output.print_text(f"The project's own notebooks: {', '.join(replaced)}.")


def _accept_stages(request: _RunRequest, values: dict[str, dict[str, Any]]) -> None:
    """Record that the current user accepts the chosen stages as up to date."""
    from mlops_kit.pipeline.accept import accept_stages
    from mlops_kit.project import identity

    person = identity.identify_person(request.project.config.people)
    accepted = accept_stages(request.project, request.stages, values, person)
    for stage, reasons in accepted.items():
        output.print_text(f"{stage}: accepted as up to date, although {'; '.join(reasons)}")


def params_command(
    stage: Annotated[str, typer.Argument(help="The stage; default: all")] = "",
    project: ProjectOption = "",
    param: ParamOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the notebooks' parameters and their values.

    Shown are type, default, value, where the value comes from, and which values are allowed.
    """
    request = _load_run_request(project, param, ("", "", stage))
    parameters = _resolve_parameters(request)
    if as_json:
        output.print_json(output.encode_parameters(parameters))
    else:
        output.print_parameters(parameters)
