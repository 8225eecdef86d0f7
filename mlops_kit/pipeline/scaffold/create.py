"""Creating a project for a table: reading it, detecting its settings, writing the files."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from mlops_kit.core.errors import KitError
from mlops_kit.core.files import write_text
from mlops_kit.core.lazy import pd
from mlops_kit.data import contract, contract_inference, source
from mlops_kit.data.detection import DetectionReport, GivenSettings, detect_settings
from mlops_kit.data.joining import JoinStep, detect_joins, join_files
from mlops_kit.data.readers import read_table
from mlops_kit.data.reading.date_problems import AmbiguousDates
from mlops_kit.data.reading.records import TableRead
from mlops_kit.data.reading.settings import ReadSettings
from mlops_kit.pipeline.scaffold.origin import ProjectOrigin, make_original_file, write_origin
from mlops_kit.pipeline.scaffold.settings_text import build_findings, build_settings
from mlops_kit.pipeline.scaffold.template import render_template
from mlops_kit.project.loader import Project, load_project

_DATA_FOLDER = "data"
_TABLE_FILE = f"{_DATA_FOLDER}/table.parquet"
_MAX_COPIED_BYTES = 50 * 10**6  # a larger file does not belong into a repository
_MAX_SAMPLE_ROWS = 2000
_BYTES_PER_MB = 10**6
_MIN_SHOWN_MB = 0.1  # of a smaller file too
_NOTHING_GIVEN = GivenSettings()


@dataclass(frozen=True)
class ProjectRequest:
    """What a project is made of.

    Attributes
    ----------
    path : Path
        Its folder, which does not exist or is empty.
    files : list of str
        The files of the table: paths, glob patterns or URLs.
    target : str
        The column to predict.
    name : str
        Its name; empty: that of the folder.
    given : GivenSettings
        Settings that are known already.
    copies_data : bool, optional
        Whether the files are copied into the project; None: if they are small.
    """

    path: Path
    files: list[str]
    target: str
    name: str = ""
    given: GivenSettings = _NOTHING_GIVEN
    copies_data: bool | None = None


@dataclass(frozen=True)
class ProjectDraft:
    """A project before it is written: its table, and what was detected in it."""

    request: ProjectRequest
    read: TableRead
    joins: list[JoinStep]
    report: DetectionReport

    @property
    def name(self) -> str:
        """The name of the project."""
        return self.request.name or make_project_name(self.request.path)


class _BuildStep(BaseModel, frozen=True):
    """A file of several that make one table, as the template takes it."""

    file: str
    keys: list[str]
    sentence: str


class _StoredData(NamedTuple):
    """The setting ``source`` of a project, sentences about it, and how files make one table."""

    source: str
    notes: list[str]
    build_steps: list[_BuildStep]


def make_project_name(path: Path) -> str:
    """Return the name of a project in a folder.

    >>> make_project_name(Path("2024 flat prices"))
    'project-2024-flat-prices'
    """
    name = re.sub(r"[^A-Za-z0-9_]+", "-", path.absolute().name).strip("-")
    return name if name[:1].isalpha() else f"project-{name}".strip("-")


def draft_project(request: ProjectRequest) -> ProjectDraft:
    """Read the table of a project and detect its settings; nothing is written.

    Raises
    ------
    KitError
        If the folder is not empty, a file cannot be read, files cannot be joined, or a column does
        not exist.
    """
    check_folder(request.path)
    if len(request.files) == 1:
        read = _read_file(request.files[0])
        return ProjectDraft(request, read, [], _detect(read, request))
    frames = {file: _read_file(file).frame for file in request.files}
    joins = detect_joins(frames, request.target)
    frame = join_files([step.joined for step in joins], Path.cwd())
    return _draft_from_rows(request, frame, joins)


def _read_file(file: str) -> TableRead:
    """Read a file that was named on the command line.

    Dates that have two readings are read in the first way: the report says so.
    """
    location = _locate(file)
    description = f"--data {file}"
    read = read_table(location, description=description)
    dates = {
        column: problem.readings[0].format
        for column, problem in read.date_problems.items()
        if isinstance(problem, AmbiguousDates)
    }
    if not dates:
        return read
    settings = ReadSettings(dates=dates)
    read_again = read_table(location, description=description, settings=settings)
    return replace(read_again, date_problems=read.date_problems)


def draft_from_frame(path: Path, frame: pd.DataFrame, target: str, **given: Any) -> ProjectDraft:
    """Detect the settings of a project whose table is a data frame; nothing is written.

    Parameters
    ----------
    path : Path
        The project's folder.
    frame : DataFrame
        The table.
    target : str
        The column to predict.
    **given
        Fields of ``GivenSettings``.

    Raises
    ------
    KitError
        If the folder is not empty, or a column does not exist.
    """
    check_folder(path)
    request = ProjectRequest(path, [], target, given=GivenSettings(**given))
    return _draft_from_rows(request, frame, [])


def _draft_from_rows(
    request: ProjectRequest, frame: pd.DataFrame, joins: list[JoinStep]
) -> ProjectDraft:
    """Return the draft of a table that will be stored as Parquet; it is read as it will be then."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / Path(_TABLE_FILE).name
        frame.to_parquet(file, index=False)
        read = read_table(str(file))
    return ProjectDraft(request, read, joins, _detect(read, request))


def _detect(read: TableRead, request: ProjectRequest) -> DetectionReport:
    """Detect the settings that a request does not give."""
    return detect_settings(read.frame, request.target, request.given, read)


def draft_again(draft: ProjectDraft, request: ProjectRequest) -> ProjectDraft:
    """Return a draft with further settings given; the table is not read again."""
    return ProjectDraft(request, draft.read, draft.joins, _detect(draft.read, request))


def check_folder(path: Path) -> None:
    """Refuse a folder that holds anything.

    Raises
    ------
    KitError
        If it is a file, or not empty.
    """
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise KitError(
            f"{str(path)!r} exists and is not empty",
            "a folder that does not exist, or is empty",
            "name another folder",
        )


def _locate(file: str) -> str:
    """Return a path as an absolute one; a URL stays."""
    return file if "://" in file else os.path.abspath(file)


def write_project(draft: ProjectDraft) -> Project:
    """Write a project; if that fails, nothing is left of it.

    Raises
    ------
    KitError
        If the settings are not valid, or the table does not fit them.
    """
    path = draft.request.path.absolute()
    check_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".mlops-new-") as folder:
        root = Path(folder) / path.name
        root.mkdir()
        answers = _collect_answers(draft, root)
        _write_files(root, answers)
        _write_contract(load_project(root))
        if path.is_dir():
            path.rmdir()  # empty, see above
        root.replace(path)
    return load_project(path)


def _write_files(root: Path, answers: dict[str, Any]) -> None:
    """Write the files of the template, and the record of what came from it."""
    texts = render_template(answers)
    originals = {}
    for name, text in texts.items():
        write_text(root / name, text)
        originals[name] = make_original_file(text)
    write_origin(root, ProjectOrigin(answers=answers, files=originals))


def _collect_answers(draft: ProjectDraft, root: Path) -> dict[str, Any]:
    """Store the data in a project, and return the values for the template."""
    stored = _store_data(draft, root)
    report = draft.report
    names = [Path(file).name for file in draft.request.files]
    settings = build_settings(stored.source, report, stored.notes)
    return {
        "name": draft.name,
        "table": ", ".join(names) or "a data frame",
        "source": stored.source,
        "target": report.target,
        "row_count": report.rows,
        "has_time": report.get_value("time") is not None,
        "sample_rows": min(_MAX_SAMPLE_ROWS, report.rows),
        "predicts_file": "://" not in stored.source,
        "build_steps": [step.model_dump() for step in stored.build_steps],
        "settings": [setting.model_dump() for setting in settings],
        "findings": build_findings(report),
    }


def _store_data(draft: ProjectDraft, root: Path) -> _StoredData:
    """Copy or reference the files of a table, and join them if there are several."""
    files = draft.request.files
    copies_data = draft.request.copies_data
    if not files:
        _write_table(draft.read.frame, root)
        return _StoredData(_TABLE_FILE, ["The data frame, as it was given to mlops_kit.new."], [])
    if len(files) == 1:
        stored, note = _store_file(files[0], root, copies_data)
        return _StoredData(stored, [note], [])
    build_steps = []
    notes = [f"{_TABLE_FILE} is built by data/build_table.py:"]
    for step in draft.joins:
        stored, _ = _store_file(step.joined.file, root, copies_data)
        build_step = _BuildStep(file=stored, keys=step.joined.keys, sentence=step.sentence)
        build_steps.append(build_step)
        notes.append(step.sentence)
    _write_table(draft.read.frame, root)
    return _StoredData(_TABLE_FILE, notes, build_steps)


def _write_table(frame: pd.DataFrame, root: Path) -> None:
    """Write a table into the project."""
    file = root / _TABLE_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(file, index=False)


def _store_file(file: str, root: Path, copies_data: bool | None) -> tuple[str, str]:
    """Copy a file into the project, or reference it; returns the path and a sentence."""
    path = Path(_locate(file))
    if "://" in file or not path.is_file():  # a URL, a folder or a glob pattern
        location = _locate(file)
        return location, f"{location} is read where it is."
    size = path.stat().st_size
    if copies_data is None:
        copies_data = size <= _MAX_COPIED_BYTES
    megabytes = f"{max(size / _BYTES_PER_MB, _MIN_SHOWN_MB):,.1f} MB"
    if not copies_data:
        return str(path), f"The file ({megabytes}) is read where it is; it was not copied."
    stored = f"{_DATA_FOLDER}/{path.name}"
    (root / _DATA_FOLDER).mkdir(exist_ok=True)
    shutil.copyfile(path, root / stored)
    return stored, f"A copy of the file that was given ({megabytes})."


def _write_contract(project: Project) -> None:
    """Infer the data contract from all rows, as the first run would."""
    source.check_configured_columns(project)
    settled = source.resolve_cutoffs(project)
    as_of = settled.config.as_of
    rows = source.read_source(settled, None if as_of is None else settled.config.to_utc(as_of))
    file = project.resolve_path(project.config.contract.file)
    contract.save_contract(file, contract_inference.infer_contract(rows, project.config))
