"""Commands that create a project, update it from the package's template, and edit its notebooks."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlops_kit.cli import output
from mlops_kit.cli.options import ProjectOption
from mlops_kit.core.errors import KitError, RunFailedError

if TYPE_CHECKING:
    from mlops_kit.data.detection import DetectionReport
    from mlops_kit.pipeline.scaffold.create import ProjectDraft, ProjectRequest
    from mlops_kit.project.loader import Project

notebook_app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="List the project's notebooks, edit one, and follow later changes of mlops-kit's.",
)
StageArgument = Annotated[
    str, typer.Argument(metavar="STAGE", help="The stage, or dashboards/ and the page")
]
_NONE = "-"  # the answer that leaves a setting out


def new_command(
    path: Annotated[Path, typer.Argument(help="The project's folder, new or empty")],
    data: Annotated[
        list[str], typer.Option("--data", help="File of the table; may be repeated to join files")
    ],
    target: Annotated[str, typer.Option("--target", help="Column to predict")],
    name: Annotated[str, typer.Option("--name", help="Name; default: that of the folder")] = "",
    task: Annotated[str, typer.Option("--task", help="Kind of prediction")] = "",
    positive: Annotated[str, typer.Option("--positive", help="Positive class of two")] = "",
    time: Annotated[str, typer.Option("--time", help="Column with the prediction time")] = "",
    id_columns: Annotated[
        list[str] | None,
        typer.Option("--id", help="Column that identifies a row; may be repeated"),
    ] = None,
    group: Annotated[
        str, typer.Option("--group", help="Column whose rows belong together in every split")
    ] = "",
    copies_data: Annotated[
        bool | None,
        typer.Option(
            "--copy/--no-copy",
            help="Whether to copy the data into the project; default: files up to 50 MB",
        ),
    ] = None,
    takes_guesses: Annotated[
        bool, typer.Option("--yes", help="Take what was detected without asking")
    ] = False,
) -> None:
    """Create a project for a table.

    The settings are detected in the table. On a terminal each is asked for, with what was detected
    as the default; --yes takes it.
    """
    from mlops_kit.data.detection import GivenSettings
    from mlops_kit.pipeline.scaffold import create

    if not takes_guesses and not sys.stdin.isatty():
        raise KitError(
            "settings cannot be asked for: this is not a terminal",
            "a terminal, or --yes",
            "add --yes to take what is detected in the table",
        )
    request = create.ProjectRequest(
        path=path,
        files=data,
        target=target,
        name=name,
        given=GivenSettings(
            task or None,
            positive or None,
            time or None,
            id_columns or None,
            group or None,
        ),
        copies_data=copies_data,
    )
    draft = create.draft_project(request)
    if not takes_guesses:
        draft = create.draft_again(draft, _ask_for_settings(draft))
    project = create.write_project(draft)
    _print_guesses(draft.report)
    _print_created_project(project, path)


def _print_created_project(project: Project, path: Path) -> None:
    """Print where the project is, what was set up around it, and the next command."""
    output.print_text(
        f"\nProject {project.config.name} written to {path}; "
        f"{path}/mlops.yaml gives the reason of each setting."
    )
    _set_up_filter(project.root)
    output.print_text(f"Next: cd {path} && mlops run")


def _set_up_filter(root: Path) -> None:
    """Set git's filter for notebooks in a repository, and say so; it may be missing elsewhere."""
    from mlops_kit.pipeline.scaffold import git_filter

    if not git_filter.is_in_repository(root):
        return
    try:
        output.print_text(git_filter.set_up_notebook_filter(root))
    except KitError as error:
        output.print_text(f"{error.message}. Hint: {error.hint}")


def _print_guesses(report: DetectionReport) -> None:
    """Print what was detected; a question mark precedes what a person has to check."""
    from mlops_kit.pipeline.scaffold import settings_text

    output.print_text(f"Detected in {report.rows:,} rows (? marks what only you can confirm):")
    for guess in report.guesses:
        mark = " " if guess.is_certain else "?"
        value = settings_text.format_setting(guess)
        output.print_text(f"{mark} {value}{guess.reason}")


def _ask_for_settings(draft: ProjectDraft) -> ProjectRequest:
    """Ask for the settings of a project, with what was detected as the default."""
    from mlops_kit.data.detection import GivenSettings

    _print_guesses(draft.report)
    report = draft.report
    name = typer.prompt("Name", default=draft.name)
    task = typer.prompt("Task (binary, multiclass or regression)", default=report.get_value("task"))
    positive = draft.request.given.positive
    if task == "binary":
        positive = typer.prompt("Positive class", default=str(report.get_value("positive")))
    time = typer.prompt("Time column (- for none)", default=report.get_value("time") or _NONE)
    detected_id = ",".join(report.get_value("id") or [])
    id_text = typer.prompt("Columns that identify a row (- for none)", default=detected_id or _NONE)
    id_columns = [column.strip() for column in id_text.split(",")]
    detected_group = report.get_value("validation.group") or _NONE
    group = typer.prompt("Column whose rows belong together (- for none)", default=detected_group)
    given = GivenSettings(
        task,
        positive,
        time="" if time == _NONE else time,
        id_columns=[] if id_text == _NONE else id_columns,
        group="" if group == _NONE else group,
    )
    return replace(draft.request, name=name, given=given)


def update_command(project: ProjectOption = "") -> None:
    """Take over the installed version's template, and keep your edits.

    Where an edit and a change of the template meet, both stand between conflict markers in the
    file, and the exit code is 1.
    """
    from mlops_kit import __version__
    from mlops_kit.pipeline.scaffold import notebooks, update
    from mlops_kit.project import loader

    loaded = loader.load_project(project or None)
    version = update.get_template_version(loaded)
    updates = update.update_project(loaded)
    for change in updates:
        output.print_text(f"{change.path}: {change.outcome}")
    if not updates:
        output.print_text(f"The template has not changed since mlops-kit {version}.")
    for status in notebooks.list_notebooks(loaded):
        if status.has_new_version:
            output.print_text(f"notebook {status.name}: {status.describe()}")
    conflicts = [change.path for change in updates if change.outcome == update.FileOutcome.CONFLICT]
    if conflicts:
        raise RunFailedError(
            f"conflicts in {', '.join(conflicts)}",
            f"one version of each part, yours or that of mlops-kit {__version__}",
            "edit the lines between <<<<<<< and >>>>>>>",
        )


@notebook_app.command("list")
def list_notebooks_command(project: ProjectOption = "") -> None:
    """List the notebooks, and where each comes from."""
    from mlops_kit.core.formatting import align_columns
    from mlops_kit.pipeline.scaffold import notebooks
    from mlops_kit.project import loader

    loaded = loader.load_project(project or None)
    rows = [(status.name, status.describe()) for status in notebooks.list_notebooks(loaded)]
    output.print_text(align_columns(rows))


@notebook_app.command("edit")
def edit_notebook_command(stage: StageArgument, project: ProjectOption = "") -> None:
    """Copy the notebook of a stage into the project; the others stay with mlops-kit."""
    from mlops_kit.pipeline.scaffold import notebooks
    from mlops_kit.project import loader

    loaded = loader.load_project(project or None)
    copy = notebooks.edit_notebook(loaded, stage)
    output.print_text(
        f"{copy.relative_to(loaded.root)} is the project's own now; mlops lab opens it."
    )


@notebook_app.command("filter")
def filter_notebooks_command(project: ProjectOption = "") -> None:
    """Let git commit notebooks without outputs (nbstripout); once in each clone."""
    from mlops_kit.pipeline.scaffold import git_filter
    from mlops_kit.project import loader

    loaded = loader.load_project(project or None)
    output.print_text(git_filter.set_up_notebook_filter(loaded.root))


@notebook_app.command("diff")
def diff_notebook_command(stage: StageArgument, project: ProjectOption = "") -> None:
    """Show how mlops-kit's notebook has changed since it was copied into the project."""
    from mlops_kit.pipeline.scaffold import notebooks
    from mlops_kit.project import loader

    difference = notebooks.diff_notebook(loader.load_project(project or None), stage)
    output.print_text(difference or "mlops-kit's notebook has not changed since it was copied.")
    if difference:
        output.print_text(f"\nmlops notebook merge {stage} merges this into the project's.")


@notebook_app.command("merge")
def merge_notebook_command(stage: StageArgument, project: ProjectOption = "") -> None:
    """Merge the changes of mlops-kit's notebook into the project's, and keep your edits.

    A conflict is marked in its cell, and the exit code is 1.
    """
    from mlops_kit.pipeline.scaffold import notebooks
    from mlops_kit.project import loader

    loaded = loader.load_project(project or None)
    if notebooks.merge_notebook(loaded, stage):
        raise RunFailedError(
            f"conflicts in the notebook of {stage!r}",
            "one version of each cell",
            "mlops lab, and edit the cells with <<<<<<< and >>>>>>>",
        )
    output.print_text(f"The notebook of {stage} has the changes of mlops-kit's.")
