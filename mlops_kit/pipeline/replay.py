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

from mlops_kit import stage as stages
from mlops_kit import store, trace
from mlops_kit.config import FILE, Project
from mlops_kit.errors import KitError, RunFailed, nearest
from mlops_kit.pipeline import fingerprint, manifest, params
from mlops_kit.pipeline.plan import DONE
from mlops_kit.pipeline.progress import Say

ADDED = {
    "injected-parameters",
    "papermill-error-cell-tag",
}  # tags of cells that a run has put into a notebook


def said(folder: Path, stage: str) -> str:
    """What a stage's notebook printed, cell by cell, what its kernel said beside it, and its error.

    Raises
    ------
    KitError
        If there is no such stage in the run.
    """
    made = manifest.read(folder)
    if stage not in made["stages"]:
        raise KitError(
            f"run {folder.name} has no stage {stage!r}",
            nearest(stage, made["stages"]),
            "mlops status",
        )
    entry = made["stages"][stage]
    book, log = (
        folder / "notebooks" / f"{entry['notebook']}.ipynb",
        folder / "logs" / f"{stage}.stderr",
    )
    lines = [f"{stage} of run {folder.name}: {manifest.words(entry)}"]
    for number, cell in enumerate(params.code_cells(book) if book.exists() else (), 1):
        text = "".join("".join(o["text"]) for o in cell["outputs"] if o["output_type"] == "stream")
        lines += [f"--- cell {number}", text.rstrip()] if text.strip() else []
    if log.exists():
        lines += [
            "--- the kernel itself",
            log.read_text(encoding="utf-8", errors="replace").rstrip(),
        ]
    error = entry.get("error") or {}
    if error:
        lines += [
            f"--- {entry['status']} in cell {error['cell']}"
            + (f", line {error['line']}" if error.get("line") else "")
            if error.get("cell")
            else f"--- {entry['status']}",
            error.get("source", ""),
            *error.get("traceback", []),
            error["message"],
        ]
    return "\n".join(line for line in lines if line)


def console(project: Project, folder: Path, stage: str) -> None:
    """Run a stage's cells again in IPython, up to the one at which it failed, and stay there; the run itself is not touched.

    Raises
    ------
    KitError
        If the stage was not run.
    """
    import IPython
    from traitlets.config import Config

    entry = manifest.read(folder)["stages"].get(stage, {})
    book = folder / "notebooks" / f"{entry.get('notebook')}.ipynb"
    if not book.exists():
        raise KitError(
            f"{stage} was not run in {folder.name}",
            "a stage that has a notebook there",
            "mlops status",
        )
    copy = project.path(".mlops") / "debug" / folder.name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    os.environ.update(MLOPS_RUN=str(copy), MLOPS_PROJECT=str(project.root))
    os.chdir(project.root)
    config = Config()
    config.InteractiveShellApp.exec_lines = [
        f"__import__({__name__!r}, fromlist=['x']).to_failure(get_ipython(), {str(book)!r})"
    ]
    config.TerminalIPythonApp.display_banner = False
    IPython.start_ipython(argv=[], config=config)


def to_failure(shell: Any, book: str) -> None:
    """Run a notebook's cells in a shell until one fails."""
    cells = [c["source"] for c in params.code_cells(Path(book))]
    for number, source in enumerate(cells, 1):
        print(f"cell {number} of {len(cells)}", flush=True)
        if not shell.run_cell(source, store_history=True).success:
            print(
                f"Cell {number} failed; its names are here, %debug goes to the place. The source:\n{source}"
            )
            return
    print("All cells went well this time; their names are here.")


def keep(project: Project, made: fingerprint.Trace) -> None:
    """Keep what a stage used of the project's own files, by content."""
    now = fingerprint.Now(project)
    for name, found in fingerprint.used(made).items():
        path, target = now.path(name), object_file(project, found)
        if (
            len(found) == 64
            and not target.exists()
            and path.is_file()
            and path.stat().st_size <= project.config.keep.data
        ):
            store.write_atomic(target, lambda p, source=path: shutil.copyfile(source, p))  # type: ignore[misc]


def object_file(project: Project, hashed: str) -> Path:
    """Where a file of this content is kept."""
    return project.path(".mlops") / "objects" / hashed[:2] / hashed


@dataclass(frozen=True)
class Reproduction:
    """A run made again: what of its environment differs, and each stage and artifact with whether it is the same."""

    run: str
    again: str
    environment: list[str]
    rows: list[tuple[str, str, bool | None, str]]

    @property
    def same(self) -> bool:
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
        return "\n".join([*(f"◆ {e}" for e in self.environment), *lines, self.sentence])

    def to_json_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "run": self.run,
            "again": self.again,
            "same": self.same,
            "environment": self.environment,
            "rows": [list(r) for r in self.rows],
        }


def reproduce(project: Project, folder: Path, say: Say) -> Reproduction:
    """Make a run again in a folder of its own, and compare.

    Raises
    ------
    RunFailed
        If code or data of then are not to be had, or the run made again fails.
    """
    from mlops_kit.pipeline import compare

    made = manifest.read(folder)
    done = {s: e for s, e in made["stages"].items() if e["status"] in DONE and e.get("trace")}
    if not done:
        raise KitError(
            f"no stage of run {folder.name} ended well",
            "a run to make again",
            "mlops runs lists them",
        )
    place = rebuilt(project, folder, made, done)
    environment = sorted(
        {line for e in done.values() for line in surroundings(project, e["trace"])}
    )
    for line in environment:
        say(f"differs from then: {line}")
    again = carried_out(place, done, say)
    rows = [(r.stage, r.name, r.same, r.what) for r in compare.identical(folder, again)]
    found = Reproduction(folder.name, str(again), environment, rows)
    if found.same:  # what differs is left, to be looked at
        taken_away(project, rebuilt_in(project, folder))
    return found


def surroundings(project: Project, old: fingerprint.Trace) -> Iterator[str]:
    """What of a stage's environment is not what it was: packages, this one's modules where the project has no copy of its own, Python, variables."""
    here, now = trace.versions(), fingerprint.Now(project)
    yield from (
        f"{n} {v} → {here.get(n, 'not installed')}"
        for n, v in old["packages"].items()
        if here.get(n) != v
    )
    yield from (
        f"`{m}` of the installed package changed"
        for m, about in old["modules"].items()
        if installed(project, m) and now.hash(m) != about["hash"]
    )
    yield from (
        f"Python {old['python']} → {fingerprint.PYTHON}"
        for _ in [0]
        if old["python"] != fingerprint.PYTHON
    )
    yield from (
        f"environment variable {n}"
        for n, v in old["env"].items()
        if fingerprint.secret_hash(n) != v
    )


def installed(project: Project, name: str) -> bool:
    """Whether a file of a trace is this package's own, and the project has no copy of it."""
    return (
        name.startswith(f"{fingerprint.PACKAGE.name}/")
        and not (project.root / fingerprint.PACKAGE.name).is_dir()
    )


def rebuilt_in(project: Project, folder: Path) -> Path:
    """The folder in which a run is made again."""
    return project.path(".mlops") / "reproduce" / folder.name


def rebuilt(
    project: Project, folder: Path, made: dict[str, Any], done: dict[str, dict[str, Any]]
) -> Path:
    """The project as it was when a run was made, in a folder of its own."""
    base = rebuilt_in(project, folder)
    place = base / checked_out(project, base, made["git"].get("commit"))
    config = {
        **store.read_json(folder / "config.json"),
        "tracking": "sqlite:///.mlops/mlflow.db",
        "database": "sqlite:///.mlops/mlops.db",
        "reports": "reports",
        "notebooks": "notebooks",
    }
    store.write_text(place / FILE, yaml.safe_dump(config, allow_unicode=True))
    hashes = fingerprint.Hashes(project)
    for stage, entry in done.items():
        book = place / "notebooks" / project.config.stages[stage].notebook
        if not book.exists() or fingerprint.cells(book) != entry["trace"]["cells"]:
            store.write_json(book, plain(folder / "notebooks" / f"{entry['notebook']}.ipynb"))
        for name, found in fingerprint.used(entry["trace"]).items():
            restore(project, place, name, found, hashes)
    return place


def checked_out(project: Project, base: Path, commit: str | None) -> str:
    """Lay a git worktree at a commit, where there is one; the project's folder in it."""
    git = ["git", "-C", str(project.root)]
    taken_away(project, base)
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


def taken_away(project: Project, base: Path) -> None:
    """Remove a rebuilt project."""
    subprocess.run(
        ["git", "-C", str(project.root), "worktree", "remove", "--force", str(base)],
        capture_output=True,
        check=False,
    )
    shutil.rmtree(base, ignore_errors=True)


def plain(book: Path) -> dict[str, Any]:
    """An executed notebook as it was before: without outputs and without what the run put in."""
    held: dict[str, Any] = json.loads(book.read_text(encoding="utf-8"))
    held["cells"] = [c for c in held["cells"] if not ADDED & set(c["metadata"].get("tags", []))]
    for cell in held["cells"]:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    held["metadata"] = {k: v for k, v in held["metadata"].items() if k == "kernelspec"}
    return held


def restore(
    project: Project, place: Path, name: str, found: str, hashes: fingerprint.Hashes
) -> None:
    """Put a file of then in its place, unless it stands there."""
    target, kept = place / name, object_file(project, found)
    if os.path.isabs(name) or hashes.of(target) == found or found == fingerprint.GONE:
        return
    here = fingerprint.Now(project, hashes).path(name)
    source = kept if kept.exists() else here if hashes.of(here) == found else None
    if installed(project, name):
        return  # what of it is another is said with the environment
    if source is None:
        raise RunFailed(
            f"`{name}` as it was then is not to be had",
            f"content {found[:12]}",
            "put it back; files over keep.data are not kept with a run",
        )
    store.write_atomic(target, lambda p: shutil.copyfile(source, p))


def carried_out(place: Path, done: dict[str, dict[str, Any]], say: Say) -> Path:
    """Run the rebuilt project, with its own copy of the package if it has one; the folder of the run."""
    words = [
        w
        for s, e in done.items()
        for n, v in e.get("params", {}).items()
        for w in ("-p", params.as_text(f"{s}.{n}", v))
    ]
    own = {"PYTHONPATH": str(place)} if (place / fingerprint.PACKAGE.name).is_dir() else {}
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
    found = stages.runs(place / "reports")
    if not out or not found:
        raise RunFailed(
            f"the run could not be made again: {heard[-1] if heard else 'it said nothing'}",
            "a run that ends",
            f"look at {place}",
        )
    return found[0]
