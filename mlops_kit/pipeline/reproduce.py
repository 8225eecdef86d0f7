"""Old runs again: what a stage said, a console in the state in which it failed, the whole run made anew.

Code and data that a run used are kept by content (``.mlops/objects``), so that a run can be made again
after the files have changed, also one made from uncommitted edits. ``reproduce`` rebuilds the project in
a folder of its own (a git worktree at the run's commit, where there is one) with an MLflow store and a
database of its own: nothing that serves is touched.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlops_kit.core import files, import_tracer
from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.progress import ProgressReporter
from mlops_kit.pipeline import current_project, file_hashes, fingerprint, params
from mlops_kit.pipeline.object_store import get_object_path
from mlops_kit.project import run_folder, run_manifest
from mlops_kit.project.config.base import CONFIG_FILE_NAME
from mlops_kit.project.loader import Project

_RUN_CELL_TAGS = {
    "injected-parameters",
    "papermill-error-cell-tag",
}  # tags of cells that a run has put into a notebook


@dataclass(frozen=True)
class Reproduction:
    """A run made again: what of its environment differs, and each stage and artifact with whether it is the same."""

    run: str
    reproduced_run: str
    environment_changes: list[str]
    rows: list[tuple[str, str, bool | None, str]]

    @property
    def is_identical(self) -> bool:
        """Whether all that can be compared is identical."""
        return all(row[2] is not False for row in self.rows)

    @property
    def sentence(self) -> str:
        """What came out of it."""
        compared, differ = (
            [r for r in self.rows if r[2] is not None],
            [r for r in self.rows if r[2] is False],
        )
        return (
            f"Run {self.run} made again: {len(compared) - len(differ)} of {len(compared)} artifacts and numbers are identical"
            + (f"; {differ[0][0]}.{differ[0][1]} is the first that is not." if differ else ".")
        )

    @property
    def text(self) -> str:
        """All of it, a line each."""
        marks = {True: "●", False: "▲", None: "○"}
        lines = [
            f"{marks[same]} {stage:<9} {name:<22} {what}" for stage, name, same, what in self.rows
        ]
        return "\n".join([*(f"◆ {e}" for e in self.environment_changes), *lines, self.sentence])

    def to_json_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "run": self.run,
            "again": self.reproduced_run,
            "same": self.is_identical,
            "environment": self.environment_changes,
            "rows": [list(r) for r in self.rows],
        }


def reproduce_run(project: Project, folder: Path, say: ProgressReporter) -> Reproduction:
    """Make a run again in a folder of its own, and compare.

    Raises
    ------
    RunFailed
        If code or data of then are not to be had, or the run made again fails.
    """
    from mlops_kit.pipeline.compare import outputs

    made = run_manifest.read_manifest(folder)
    done = {s: e for s, e in made.stages.items() if e.is_completed and e.dependencies is not None}
    if not done:
        raise KitError(
            f"no stage of run {folder.name} ended well",
            "a run to make again",
            "mlops runs lists them",
        )
    place = _rebuild_project(project, folder, made, done)
    environment = sorted(
        {
            line
            for e in done.values()
            if e.dependencies is not None
            for line in list_environment_changes(project, e.dependencies)
        }
    )
    for line in environment:
        say(f"differs from then: {line}")
    again = _run_rebuilt_project(place, done, say)
    rows = [(r.stage, r.name, r.is_same, r.detail) for r in outputs.compare_outputs(folder, again)]
    found = Reproduction(folder.name, str(again), environment, rows)
    if found.is_identical:  # what differs is left, to be looked at
        _remove_rebuilt_project(project, get_reproduction_folder(project, folder))
    return found


def list_environment_changes(
    project: Project, old: run_manifest.StageDependencies
) -> Iterator[str]:
    """What of a stage's environment is not what it was: packages, this one's modules where the project has no copy of its own, Python, variables."""
    here, now = import_tracer.list_installed_versions(), current_project.CurrentProject(project)
    yield from (
        f"{n} {v} → {here.get(n, 'not installed')}"
        for n, v in old.packages.items()
        if here.get(n) != v
    )
    yield from (
        f"`{m}` of the installed package changed"
        for m, about in old.modules.items()
        if _is_installed_package_file(project, m) and now.hash_file(m) != about.hash
    )
    yield from (
        f"Python {old.python} → {current_project.PYTHON_VERSION}"
        for _ in [0]
        if old.python != current_project.PYTHON_VERSION
    )
    yield from (
        f"environment variable {n}"
        for n, v in old.env.items()
        if current_project.hash_environment_variable(n) != v
    )


def _is_installed_package_file(project: Project, name: str) -> bool:
    """Whether a file of a trace is this package's own, and the project has no copy of it."""
    return (
        name.startswith(f"{current_project.PACKAGE_FOLDER.name}/")
        and not (project.root / current_project.PACKAGE_FOLDER.name).is_dir()
    )


def get_reproduction_folder(project: Project, folder: Path) -> Path:
    """The folder in which a run is made again."""
    return project.resolve_path(".mlops") / "reproduce" / folder.name


def _rebuild_project(
    project: Project,
    folder: Path,
    made: run_manifest.RunManifest,
    done: dict[str, run_manifest.StageEntry],
) -> Path:
    """The project as it was when a run was made, in a folder of its own."""
    base = get_reproduction_folder(project, folder)
    place = base / _check_out_commit(project, base, made.git.commit)
    config = {
        **run_folder.read_config_record(folder),
        "tracking": "sqlite:///.mlops/mlflow.db",
        "database": "sqlite:///.mlops/mlops.db",
        "reports": "reports",
        "notebooks": "notebooks",
    }
    files.write_text(place / CONFIG_FILE_NAME, yaml.safe_dump(config, allow_unicode=True))
    hashes = file_hashes.FileHashes(project)
    for stage, entry in done.items():
        if entry.dependencies is None:
            continue
        book = place / "notebooks" / project.config.stages[stage].notebook
        if not book.exists() or current_project.hash_code_cells(book) != entry.dependencies.cells:
            files.write_json(
                book, _strip_run_output(folder / "notebooks" / f"{entry.notebook}.ipynb")
            )
        for name, found in fingerprint.get_file_hashes(entry.dependencies).items():
            _restore_file(project, place, name, found, hashes)
    return place


def _check_out_commit(project: Project, base: Path, commit: str | None) -> str:
    """Lay a git worktree at a commit, where there is one; the project's folder in it."""
    git = ["git", "-C", str(project.root)]
    _remove_rebuilt_project(project, base)
    top = subprocess.run(
        [*git, "rev-parse", "--show-prefix"], capture_output=True, text=True, check=False
    )
    laid = (
        commit
        and subprocess.run(
            [*git, "worktree", "add", "--force", "--detach", str(base), commit],
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )
    base.mkdir(parents=True, exist_ok=True)
    return top.stdout.strip() if laid else ""


def _remove_rebuilt_project(project: Project, base: Path) -> None:
    """Remove a rebuilt project."""
    subprocess.run(
        ["git", "-C", str(project.root), "worktree", "remove", "--force", str(base)],
        capture_output=True,
        check=False,
    )
    shutil.rmtree(base, ignore_errors=True)


def _strip_run_output(book: Path) -> dict[str, Any]:
    """An executed notebook as it was before: without outputs and without what the run put in."""
    held: dict[str, Any] = json.loads(book.read_text(encoding="utf-8"))
    held["cells"] = [
        c for c in held["cells"] if not _RUN_CELL_TAGS & set(c["metadata"].get("tags", []))
    ]
    for cell in held["cells"]:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    held["metadata"] = {k: v for k, v in held["metadata"].items() if k == "kernelspec"}
    return held


def _restore_file(
    project: Project, place: Path, name: str, found: str, hashes: file_hashes.FileHashes
) -> None:
    """Put a file of then in its place, unless it stands there."""
    target, kept = place / name, get_object_path(project, found)
    if (
        os.path.isabs(name)
        or hashes.hash_path(target) == found
        or found == file_hashes.MISSING_FILE
    ):
        return
    here = current_project.CurrentProject(project, hashes).resolve_path(name)
    source = kept if kept.exists() else here if hashes.hash_path(here) == found else None
    if _is_installed_package_file(project, name):
        return  # what of it is another is said with the environment
    if source is None:
        raise RunFailedError(
            f"`{name}` as it was then is not to be had",
            f"content {found[:12]}",
            "put it back; files over keep.data are not kept with a run",
        )
    files.write_atomically(target, lambda p: shutil.copyfile(source, p))


def _run_rebuilt_project(
    place: Path, done: dict[str, run_manifest.StageEntry], say: ProgressReporter
) -> Path:
    """Run the rebuilt project, with its own copy of the package if it has one; the folder of the run."""
    words = [
        w
        for s, e in done.items()
        for n, v in e.params.items()
        for w in ("-p", params.format_parameter_option(f"{s}.{n}", v))
    ]
    own = (
        {"PYTHONPATH": str(place)} if (place / current_project.PACKAGE_FOLDER.name).is_dir() else {}
    )
    command = [
        sys.executable,
        "-m",
        "mlops_kit.cli",
        "run",
        "--project",
        str(place),
        "--force",
        "--json",
        "--to",
        [*done][-1],
        *words,
    ]
    with subprocess.Popen(
        command,
        env={**os.environ, **own},
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None and process.stdout is not None
        heard = []
        for line in process.stderr:
            heard.append(line.rstrip())
            say(line.rstrip())
        out = process.stdout.read()
    found = run_folder.list_run_folders(place / "reports")
    if not out or not found:
        raise RunFailedError(
            f"the run could not be made again: {heard[-1] if heard else 'it said nothing'}",
            "a run that ends",
            f"look at {place}",
        )
    return found[0]
