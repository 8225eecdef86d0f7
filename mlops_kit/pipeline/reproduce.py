"""Executes an old run again and compares the results (``mlops reproduce``).

The project is rebuilt in a folder of its own: a git worktree at the run's commit if there is one,
with the files that the run used from the object store. It gets its own MLflow store and database,
so nothing that is in service is touched.

Below that folder the project has the path that it has below the root of the file system, and so
have copies of the files outside the project: a notebook that names one relative to the project
reads the copy. One that names it by its absolute path reads the file itself; if that has changed
since the run, it is named among the changes of the environment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, cast

import yaml

from mlops_kit.core import files, import_tracer
from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.extras import require_extra
from mlops_kit.core.progress import ProgressReporter
from mlops_kit.pipeline.compare.outputs import compare_outputs
from mlops_kit.pipeline.compare.records import OutputComparison
from mlops_kit.pipeline.current_project import (
    PACKAGE_FOLDER,
    PYTHON_VERSION,
    CurrentProject,
    hash_code_cells,
    hash_environment_variable,
)
from mlops_kit.pipeline.file_hashes import MISSING_FILE, FileHashes
from mlops_kit.pipeline.fingerprint import get_file_hashes
from mlops_kit.pipeline.manifest import run_git
from mlops_kit.pipeline.object_store import copy_file, get_object_path
from mlops_kit.pipeline.params import format_parameter_option
from mlops_kit.project.config.base import CONFIG_FILE_NAME
from mlops_kit.project.loader import Project
from mlops_kit.project.notebook_cells import RUN_CELL_TAGS
from mlops_kit.project.plugins import list_plugins
from mlops_kit.project.run_folder import (
    CONFIG_RECORD_FILE,
    list_run_folders,
    read_config_record,
)
from mlops_kit.project.run_manifest import StageDependencies, StageEntry, read_manifest

# Of the rebuilt project: nothing outside its folder is used.
_LOCAL_SETTINGS = {
    "tracking": "sqlite:///.mlops/mlflow.db",
    "database": "sqlite:///.mlops/mlops.db",
    "reports": "reports",
    "notebooks": "notebooks",
}
_SHOWN_HASH_CHARACTERS = 12
_MARKS = {True: "●", False: "▲", None: "○"}


@dataclass(frozen=True)
class Reproduction:
    """The result of executing a run again.

    Attributes
    ----------
    run : str
        Name of the run.
    reproduced_run : str
        Folder of the run that was made from it.
    environment_changes : list of str
        What of the environment has changed since.
    outputs : list of OutputComparison
        Each artifact and logged number, with whether it is identical.
    """

    run: str
    reproduced_run: str
    environment_changes: list[str]
    outputs: list[OutputComparison]

    @property
    def is_identical(self) -> bool:
        """Whether everything that can be compared is identical."""
        return all(output.is_same is not False for output in self.outputs)

    @property
    def sentence(self) -> str:
        """How many outputs are identical, and the first that is not."""
        compared = [output for output in self.outputs if output.is_same is not None]
        different = [output for output in compared if not output.is_same]
        identical_count = len(compared) - len(different)
        sentence = (
            f"Run {self.run} was executed again: {identical_count} of {len(compared)} "
            "artifacts and numbers are identical"
        )
        if not different:
            return f"{sentence}."
        first = different[0]
        if not first.name:
            return f"{sentence}; {first.stage} {first.detail}."
        return f"{sentence}; {first.stage}.{first.name} is the first that differs."

    @property
    def text(self) -> str:
        """All changes and outputs, one per line, and the sentence."""
        lines = [f"◆ {change}" for change in self.environment_changes]
        for output in self.outputs:
            mark = _MARKS[output.is_same]
            lines.append(f"{mark} {output.stage:<9} {output.name:<22} {output.detail}")
        return "\n".join([*lines, self.sentence])

    def to_json_dict(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return {
            "run": self.run,
            "reproduced_run": self.reproduced_run,
            "is_identical": self.is_identical,
            "environment_changes": self.environment_changes,
            "outputs": [asdict(output) for output in self.outputs],
        }


def reproduce_run(
    project: Project, folder: Path, report_progress: ProgressReporter
) -> Reproduction:
    """Execute a run again in a folder of its own, and compare the outputs.

    The folder is removed if they are identical.

    Parameters
    ----------
    project : Project
        The project of the run.
    folder : Path
        Folder of the run.
    report_progress : ProgressReporter
        Called with lines of progress.

    Raises
    ------
    KitError
        If no stage of the run was completed.
    RunFailedError
        If code or data of the run are not available any more, or executing it again fails.
    """
    require_extra("train")
    manifest = read_manifest(folder)
    completed = {
        stage: entry
        for stage, entry in manifest.stages.items()
        if entry.is_completed and entry.dependencies is not None
    }
    if not completed:
        raise KitError(
            f"no stage of run {folder.name} was completed",
            "a run with completed stages",
            "mlops runs lists them",
        )
    environment_changes = _collect_environment_changes(project, completed)
    for change in environment_changes:
        report_progress(f"changed since the run: {change}")
    rebuilt = _rebuild_project(project, folder, manifest.git.commit, completed)
    reproduced_run = _run_rebuilt_project(rebuilt, completed, report_progress)
    outputs = compare_outputs(folder, reproduced_run)
    reproduction = Reproduction(folder.name, str(reproduced_run), environment_changes, outputs)
    if reproduction.is_identical:
        _remove_rebuilt_project(project, get_reproduction_folder(project, folder))
    return reproduction


def _collect_environment_changes(
    project: Project, completed: Mapping[str, StageEntry]
) -> list[str]:
    """Return the changes of the environment for all stages, sorted."""
    changes: set[str] = set()
    for entry in completed.values():
        if entry.dependencies is not None:
            changes.update(list_environment_changes(project, entry.dependencies))
    return sorted(changes)


def list_environment_changes(project: Project, dependencies: StageDependencies) -> Iterator[str]:
    """Yield what of a stage's environment has changed since it was executed.

    That is versions of packages and of Python, environment variables, files outside the project,
    and modules of this package if the project does not have its own copy of it.
    """
    installed_versions = import_tracer.list_installed_versions()
    for name, version in dependencies.packages.items():
        installed_version = installed_versions.get(name, "not installed")
        if installed_version != version:
            yield f"{name} {version} → {installed_version}"
    current = CurrentProject(project)
    for name, module in dependencies.modules.items():
        is_installed = _is_installed_package_file(project, name)
        if is_installed and current.hash_file(name) != module.hash:
            yield f"`{name}` of the installed package changed"
    if dependencies.python != PYTHON_VERSION:
        yield f"Python {dependencies.python} → {PYTHON_VERSION}"
    for name, value_hash in dependencies.env.items():
        if hash_environment_variable(name) != value_hash:
            yield f"environment variable {name}"
    for name, content_hash in get_file_hashes(dependencies).items():
        if Path(name).is_absolute() and current.hash_file(name) != content_hash:
            yield _describe_outside_change(project, name, current.hash_file(name), content_hash)


def _describe_outside_change(
    project: Project, name: str, present_hash: str, content_hash: str
) -> str:
    """Return how a file outside the project has changed, and where its earlier content is."""
    if content_hash == MISSING_FILE:
        return f"`{name}` outside the project exists now"
    change = "is gone" if present_hash == MISSING_FILE else "changed"
    stored = get_object_path(project, content_hash)
    copy = f"copy of it as it was: {stored}" if stored.exists() else "no copy of it was stored"
    return f"`{name}` outside the project {change} ({copy})"


def _is_installed_package_file(project: Project, name: str) -> bool:
    """Return whether a file is of the installed package, of which the project has no copy."""
    package = PACKAGE_FOLDER.name
    return name.startswith(f"{package}/") and not (project.root / package).is_dir()


def get_reproduction_folder(project: Project, folder: Path) -> Path:
    """Return the folder in which a run is executed again."""
    return project.resolve_path(".mlops") / "reproduce" / folder.name


def _rebuild_project(
    project: Project, folder: Path, commit: str | None, completed: Mapping[str, StageEntry]
) -> Path:
    """Rebuild the project as it was when a run was executed; return its folder."""
    base = get_reproduction_folder(project, folder)
    _remove_rebuilt_project(project, base)
    _check_out_commit(project, base, commit)
    rebuilt = _get_rebuilt_path(base, project.root)
    rebuilt.mkdir(parents=True, exist_ok=True)
    _write_settings(rebuilt, folder)
    hashes = FileHashes(project)
    for stage, entry in completed.items():
        if entry.dependencies is None:
            continue
        notebook = rebuilt / "notebooks" / project.config.stages[stage].notebook
        if not notebook.exists() or hash_code_cells(notebook) != entry.dependencies.cells:
            executed = folder / "notebooks" / f"{entry.notebook}.ipynb"
            notebook.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(notebook, _strip_run_output(executed))
        for name, content_hash in get_file_hashes(entry.dependencies).items():
            if Path(name).is_absolute():
                _restore_outside_file(project, base, name, content_hash, hashes)
            else:
                _restore_file(project, rebuilt, name, content_hash, hashes)
    _copy_unused_plugins(project, rebuilt)
    return rebuilt


def _copy_unused_plugins(project: Project, rebuilt: Path) -> None:
    """Copy plugins that no stage of the run used: the settings name them, so they must exist."""
    for plugin in list_plugins():
        for path in plugin.stamps:
            if not Path(path).is_relative_to(project.root):
                continue
            target = rebuilt / Path(path).relative_to(project.root)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)


def _write_settings(rebuilt: Path, folder: Path) -> None:
    """Write the settings of a run into the rebuilt project."""
    if _has_own_package(rebuilt):  # which may be of a version that knows only the stored names
        settings = files.read_json(folder / CONFIG_RECORD_FILE)
    else:
        settings = read_config_record(folder)
    text = yaml.safe_dump(settings | _LOCAL_SETTINGS, allow_unicode=True)
    files.write_text(rebuilt / CONFIG_FILE_NAME, text)


def _has_own_package(rebuilt: Path) -> bool:
    """Return whether a project has its own copy of this package."""
    return (rebuilt / PACKAGE_FOLDER.name).is_dir()


def _get_rebuilt_path(base: Path, path: Path) -> Path:
    """Return where a folder or file is rebuilt: it keeps its path below the root."""
    return base / path.relative_to(path.anchor)


def _check_out_commit(project: Project, base: Path, commit: str | None) -> None:
    """Create a git worktree at a commit if there is one."""
    if not commit:
        return
    worktree = _find_worktree(project, base)
    if worktree is None:
        return
    subprocess.run(
        [
            "git",
            "-C",
            str(project.root),
            "worktree",
            "add",
            "--force",
            "--detach",
            worktree,
            commit,
        ],
        capture_output=True,
        check=False,
    )


def _find_worktree(project: Project, base: Path) -> Path | None:
    """Return where the git repository of a project is checked out again; None without one."""
    top_level = run_git(project.root, "rev-parse", "--show-toplevel")
    return _get_rebuilt_path(base, Path(top_level)) if top_level else None


def _remove_rebuilt_project(project: Project, base: Path) -> None:
    """Remove a rebuilt project, and its git worktree if it is one."""
    worktree = _find_worktree(project, base)
    if worktree is not None:
        subprocess.run(
            ["git", "-C", str(project.root), "worktree", "remove", "--force", worktree],
            capture_output=True,
            check=False,
        )
    shutil.rmtree(base, ignore_errors=True)


def _strip_run_output(notebook: Path) -> dict[str, Any]:
    """Return an executed notebook without its outputs and the cells that the run inserted."""
    stripped: dict[str, Any] = json.loads(notebook.read_text(encoding="utf-8"))
    cells = []
    for cell in stripped["cells"]:
        tags = set(cell["metadata"].get("tags", []))
        if tags & RUN_CELL_TAGS:
            continue
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
        cells.append(cell)
    metadata = stripped["metadata"]
    stripped["cells"] = cells
    stripped["metadata"] = {key: metadata[key] for key in ("kernelspec",) if key in metadata}
    return stripped


def _restore_file(
    project: Project, rebuilt: Path, name: str, content_hash: str, hashes: FileHashes
) -> None:
    """Restore a file with the content that it had during the run.

    Raises
    ------
    RunFailedError
        If the content is not available any more.
    """
    target = rebuilt / name
    if content_hash == MISSING_FILE:
        return
    if hashes.hash_path(target) == content_hash:
        return
    if _is_installed_package_file(project, name):  # shown as a change of the environment
        return
    source = get_object_path(project, content_hash)
    if not source.exists():
        source = CurrentProject(project, hashes).resolve_path(name)
        if hashes.hash_path(source) != content_hash:
            raise RunFailedError(
                f"`{name}` is not available with the content that it had during the run",
                f"content {content_hash[:_SHOWN_HASH_CHARACTERS]}",
                "restore it; files larger than retention.max_data_size are not stored with a run",
            )
    copy_file(source, target)


def _restore_outside_file(
    project: Project, base: Path, name: str, content_hash: str, hashes: FileHashes
) -> None:
    """Restore a file outside the project for a notebook that names it relative to the project.

    One that was too large to be stored is linked if it has not changed.
    """
    target = _get_rebuilt_path(base, Path(name))
    stored = get_object_path(project, content_hash)
    if target.exists():
        return
    if stored.exists():
        copy_file(stored, target)
    elif hashes.hash_path(name) == content_hash:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(name)


def _run_rebuilt_project(
    rebuilt: Path, completed: Mapping[str, StageEntry], report_progress: ProgressReporter
) -> Path:
    """Run the rebuilt project, with its own copy of the package if it has one.

    Returns
    -------
    Path
        Folder of the run.
    """
    parameters: list[str] = []
    for stage, entry in completed.items():
        for name, value in entry.params.items():
            parameters += ["-p", format_parameter_option(f"{stage}.{name}", value)]
    last_stage = list(completed)[-1]
    command = [sys.executable, "-m", "mlops_kit.cli", "run", "--project", str(rebuilt)]
    command += ["--force", "--json", "--to", last_stage, *parameters]
    environment = dict(os.environ)
    if _has_own_package(rebuilt):
        environment["PYTHONPATH"] = str(rebuilt)
    last_line = "it printed nothing"
    # A file, because a pipe that is read only after standard error would block a long result.
    with tempfile.TemporaryFile() as result:
        with subprocess.Popen(
            command,
            env=environment,
            cwd=rebuilt,
            stdout=result,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            for line in cast("IO[str]", process.stderr):
                last_line = line.rstrip()
                report_progress(last_line)
        has_result = result.tell() > 0
    runs = list_run_folders(rebuilt / "reports")
    if not has_result or not runs:
        raise RunFailedError(
            f"the run could not be executed again: {last_line}",
            "a run that ends",
            f"look at {rebuilt}",
        )
    return runs[0]
