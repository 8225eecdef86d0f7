"""A notebook's handle on its run: read, write, log, show, hand over.

In the pipeline a stage reads and writes its own run (the engine names it in ``MLOPS_RUN``). By
hand, in JupyterLab or by plain papermill, it reads the draft or the latest run, whichever is newer,
and writes ``reports/draft/``: a recorded run is never changed, and a draft is never promoted.
"""

from __future__ import annotations

import html
import json
import os
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_kit.core import dependencies
from mlops_kit.core.environment import DEFAULT_ENVIRONMENT_VARIABLES
from mlops_kit.core.errors import KitError, RunFailedError, suggest_names
from mlops_kit.core.extras import import_from_extra
from mlops_kit.core.files import write_text
from mlops_kit.core.results import Figure, KeyNumbers, Table, Verdict, Verdicts
from mlops_kit.core.serialization import to_json_value
from mlops_kit.data import source
from mlops_kit.data.target import list_classes
from mlops_kit.db.day_quarantine import leave_out_quarantined_days
from mlops_kit.project import artifacts, loader
from mlops_kit.project.run_folder import list_artifacts, load_recorded_project
from mlops_kit.project.stage_record import ShownResult, StageRecord, write_stage_record
from mlops_kit.stages.column_metadata import show_column_labels
from mlops_kit.stages.manual_execution import describe_manual_execution
from mlops_kit.stages.read_folders import list_read_folders
from mlops_kit.stages.setting_overrides import select_overrides
from mlops_kit.stages.step_cache import cache_function

if TYPE_CHECKING:
    import pandas as pd

    from mlops_kit.data.reading.records import ReadReport
    from mlops_kit.registry.recipe import Recipe

_DRAFT_FOLDER = "draft"
_SHOWN_HASH_CHARACTERS = 12


class Stage:
    """A stage of a run, as a notebook sees it. ``open_stage`` makes it."""

    def __init__(self, name: str, project: loader.Project, run: Path, draft: bool) -> None:
        self.name = name
        self.project = project
        self.config = project.config
        self.run_folder = run
        self.record = StageRecord(stage=name)
        self._is_draft = draft
        self.reading: ReadReport | None = None  # of the source, once it has been read

    @property
    def is_draft(self) -> bool:
        """Whether the stage is run by hand.

        A notebook that asks does something else in a draft, so no run takes over its results.
        """
        self.record.depends_on_draft = True
        return self._is_draft

    @property
    def seed(self) -> int:
        """The seed of everything random."""
        return self.config.seed

    @property
    def sample(self) -> int:
        """Number of rows of a quick trial run; 0 for all."""
        return self.config.sample

    @property
    def run_id(self) -> str:
        """The run's name; ``draft`` by hand."""
        return self.run_folder.name

    @property
    def as_of(self) -> pd.Timestamp | None:
        """The time (UTC) up to which explore to review see data, or None."""
        return self._parse_timestamp(self.config.as_of)

    @property
    def until(self) -> pd.Timestamp | None:
        """The time (UTC) up to which deploy, monitor and retrain see data, or None."""
        return self._parse_timestamp(self.config.until)

    def _parse_timestamp(self, value: datetime | None) -> pd.Timestamp | None:
        import pandas as pd

        return None if value is None else pd.Timestamp(self.config.to_utc(value))

    def read_source(self, known_by: pd.Timestamp | None = None) -> pd.DataFrame:
        """Read the source as it was known at ``as_of``, or at the given time."""
        cutoff = self.as_of if known_by is None else known_by
        table = source.read_known_table(self.project, cutoff)
        self.reading = table.report
        return table.frame

    def limit_to_sample(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the sample of a quick trial run; all rows otherwise."""
        return source.draw_sample(self.project, rows, self.sample)

    def check_contract(self, rows: pd.DataFrame) -> tuple[Any, pd.DataFrame, pd.DataFrame]:
        """Validate rows against the project's contract; infer and save one if there is none.

        Rows that could not be read count among those in quarantine.

        Returns
        -------
        report : ContractReport
        accepted, quarantined : DataFrame

        Raises
        ------
        RunFailedError
            If the contract is violated; the report is written first.
        """
        from mlops_kit.data.contract_validation import enforce_contract
        from mlops_kit.data.quarantine import check_source_rows

        report, accepted, quarantined = check_source_rows(self.project, rows, self.reading)
        self.write("contract_report", report)
        enforce_contract(report)
        return report, accepted, quarantined

    def read(self, name: str) -> Any:
        """Read an artifact by name.

        In the pipeline it comes from the stage's own run; by hand from the draft or the latest
        run, whichever is newer.

        Raises
        ------
        KitError
            If there is no such artifact.
        """
        folders = list_read_folders(
            self.project.reports_folder,
            self.run_folder,
            self._is_draft,
            self.sample,
        )
        available: set[str] = set()
        for folder in folders:
            by_name = list_artifacts(folder)
            if name in by_name:
                artifact = by_name[name]
                self.record.read[name] = artifact.content or artifact.sha256
                return artifacts.read_artifact(folder, artifact)
            available.update(by_name)
        if self._is_draft and len(folders) == 1:
            raise KitError(
                f"{name!r} cannot be read: there is no run yet",
                "a run that has written it",
                "mlops run",
            )
        folder_names = ", ".join(folder.name for folder in folders)
        raise KitError(
            f"no artifact {name!r} in {folder_names}",
            suggest_names(name, available) if available else "a run in which that stage has ended",
            "mlops run",
        )

    def write(
        self,
        name: str,
        value: Any,
        volatile: Iterable[str] = (),
        record: bool = False,
        partition: str = "",
    ) -> None:
        """Write a table, a result or a document as an artifact of the run.

        See ``write_artifact`` and ``write_partitioned_artifact`` in
        ``mlops_kit.project.artifacts`` for the parameters.
        """
        run, stage = self.run_folder, self.name
        if partition:
            artifact = artifacts.write_partitioned_artifact(
                run,
                stage,
                name,
                value,
                partition,
                volatile,
            )
        else:
            artifact = artifacts.write_artifact(run, stage, name, value, volatile, record)
        artifact.made_from = dict(self.record.read)
        self.record.artifacts[name] = artifact
        self._save_record()

    def log(self, **numbers: Any) -> None:
        """Add numbers to the run's record; they reach MLflow when the stage has ended."""
        self.record.logged.update(numbers)
        self._save_record()

    def write_result(self, **values: Any) -> None:
        """Return typed values from the stage: numbers, text, booleans, None, lists and dicts.

        Raises
        ------
        KitError
            For a value that JSON would change.
        """
        for name, value in values.items():
            if json.loads(json.dumps(to_json_value(value))) != value:
                raise KitError(
                    f"the result {name!r} is a {type(value).__name__}, which JSON would change",
                    "a number, text, True or False, None, a list or a dict with text keys",
                    "stage.write stores tables and results",
                )
        self.write(f"{self.name}_result", values)

    def read_result(self, stage: str) -> dict[str, Any]:
        """Return the typed values that another stage returned."""
        values: dict[str, Any] = self.read(f"{stage}_result")
        return values

    def show(
        self,
        result: Any,
        front: bool = False,
    ) -> None:
        """Display a result and record it.

        The record gets the result's sentence and key numbers; a figure is stored as SVG.

        Parameters
        ----------
        result
            Any result or displayable object.
        front : bool
            True for the figure that represents the stage on the run's page.
        """
        with import_from_extra("train"):
            from IPython.display import display

        is_figure = isinstance(result, Figure)
        entry = ShownResult(
            title=getattr(result, "title", type(result).__name__),
            sentence=getattr(result, "sentence", ""),
            front=front,
        )
        if isinstance(result, KeyNumbers):
            entry.numbers = to_json_value(result.items)
        position = self._find_shown_position(entry.title, is_figure)
        if is_figure:
            path = self.run_folder / "figures" / self.name / f"{position:02d}.svg"
            write_text(path, result.svg)
            entry.figure = str(path.relative_to(self.run_folder))
        self.record.shown[position : position + 1] = [entry]
        self._save_record()
        display(result)

    def _find_shown_position(
        self,
        title: str,
        is_figure: bool,
    ) -> int:
        """Return the place of a result in the list of what was shown.

        A cell that is executed again replaces what it showed before; anything else is appended.
        """
        for position, entry in enumerate(self.record.shown):
            if entry.title == title and bool(entry.figure) == is_figure:
                return position
        return len(self.record.shown)

    def enforce_verdicts(
        self,
        verdicts: Iterable[Verdict],
        stop: bool = True,
    ) -> None:
        """Show and record verdicts; stop the stage if one of them blocks.

        A sample run never stops here: it exists to try the whole chain and is never promoted.

        Raises
        ------
        RunFailedError
            With the first blocking verdict, unless ``stop`` is False or the run is a sample.
        """
        with import_from_extra("train"):
            from IPython.display import display

        table = Verdicts.from_verdicts(verdicts)
        new_checks = {verdict.check for verdict in table}
        kept = [entry for entry in self.record.verdicts if entry["check"] not in new_checks]
        self.record.verdicts = kept + [verdict.to_json_dict() for verdict in table]
        self._save_record()
        display(table)
        if self.sample or not stop:
            return
        for verdict in table:
            if verdict.is_blocking:
                raise RunFailedError(verdict.sentence, verdict.limit, verdict.hint)

    def hand_over(self, sentence: str) -> None:
        """End the stage: record its sentence and list the artifacts for the next stages.

        Raises
        ------
        RunFailedError
            If an artifact that the stage declares under ``writes`` was not written.
        """
        import pandas as pd

        with import_from_extra("train"):
            from IPython.display import display

        written = self.record.artifacts
        for name in self.config.stages[self.name].writes:
            if name not in written and not artifacts.is_project_file_name(name):
                raise RunFailedError(
                    f"{self.name} did not write {name!r}",
                    f"stage.write({name!r}, …) before hand_over",
                    f"or remove it from stages.{self.name}.writes",
                )
        self.record.sentence = sentence
        self.record.done = True
        if self._is_draft:
            self.record.manual_execution = describe_manual_execution()
        self._save_record()
        rows = []
        for name, artifact in written.items():
            short_hash = (artifact.content or "")[:_SHOWN_HASH_CHARACTERS]
            rows.append((name, artifact.kind, artifact.rows, short_hash))
        table = pd.DataFrame(rows, columns=["artifact", "kind", "rows", "content"])
        display(Table("What this stage hands on", sentence, table))

    def _save_record(self) -> None:
        write_stage_record(self.run_folder, self.record)

    def cache_path(self, name: str) -> Path:
        """Return a file of the project that outlives the run, such as a resumable study."""
        path = self.project.resolve_path(".mlops") / "cache" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def cache(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its results kept on disk, for the expensive steps of a stage.

        ``fit = stage.cache(train.fit_model)`` is quick when the notebook is executed again after a
        failure. Results are kept by the function's code and arguments, in ``.mlops/cache``.
        """
        return cache_function(function, self.cache_path("steps"))

    def save_models(
        self,
        evaluation_model: Any,
        final_model: Any,
        example: pd.DataFrame,
        recipe: Recipe,
        trials: Table,
    ) -> None:
        """Log the search and both models in MLflow; write the artifact ``model``.

        Parameters
        ----------
        evaluation_model, final_model : Pipeline
            The model that the review evaluates, and the one that is registered.
        example : DataFrame
            Some feature rows, for the signature of the logged models.
        recipe : Recipe
            As returned by ``train.search_recipes``.
        trials : Table
            The table of the search.
        """
        from mlops_kit.registry import run_log

        facts = {
            "threshold": recipe.threshold,
            "classes": self.class_names,
            "target": self.config.target,
            "sample": self.sample,
        }
        tags = {
            "mlflow.runName": f"{self.name} of {self.run_id}",
            "draft": str(self._is_draft),
            "run": self.run_id,
        }
        tags |= {f"data.{name}": content_hash for name, content_hash in self.record.read.items()}
        saved = run_log.log_training_run(
            self.project,
            {"judged": evaluation_model, "model": final_model},
            example,
            facts,
            run_log.SearchResult(trials.data, recipe),
            tags,
        )
        saved_model = saved.models["model"]
        self.record.mlflow_run = saved.run_id
        entry = {
            **saved_model.to_record(),
            "judged": saved.models["judged"].to_record(),
            "features": list(example.columns),
            "threshold": recipe.threshold,
            "classes": self.class_names,
        }
        self.write("model", entry, record=True)
        self.record.artifacts["model"].content = saved_model.model_hash
        self._save_record()

    def load_model(self, evaluation: bool = False) -> Any:
        """Load the final model, or the evaluation model.

        Parameters
        ----------
        evaluation : bool
            True for the model that was fitted on training rows only.
        """
        from mlops_kit.registry import models

        entry = self.read("model")
        record = entry["judged"] if evaluation else entry
        return models.load_model(self.project, models.SavedModel.from_record(record))

    @property
    def class_names(self) -> list[Any]:
        """The classes of the target, see ``mlops_kit.data.target.list_classes``."""
        return list_classes(self.project)

    @property
    def alerts_file(self) -> Path:
        """The project's file of alerts; by hand the draft's own."""
        if self.is_draft:
            return self.run_folder / "alerts.jsonl"
        return self.project.resolve_path(self.config.monitor.alerts_file)

    def _repr_html_(self) -> str:
        parts = [
            html.escape(self.config.name),
            self.name,
            "draft" if self._is_draft else f"run {self.run_id}",
        ]
        if self.as_of is not None:
            parts.append(f"as of {self.as_of:%Y-%m-%d}, until {self.until:%Y-%m-%d}")
        if self.sample:
            parts.append(f"<b>sample of {self.sample:,} rows</b>")
        return f"<p>{' · '.join(parts)}</p>"


def open_stage(name: str, **parameters: Any) -> Stage:
    """Open a stage; a notebook calls this once at its top.

    Parameters
    ----------
    name : str
        The stage's name.
    **parameters
        Values of the notebook's parameters cell that override ``mlops.yaml`` (``as_of``,
        ``until``, ``sample``, ``seed``). An empty one, or a zero sample or seed, keeps the
        configured value.

    Raises
    ------
    KitError
        If the project has no such stage, or a parameter is invalid.
    """
    with import_from_extra("train"):
        from IPython.display import display

    for variable, value in DEFAULT_ENVIRONMENT_VARIABLES.items():
        os.environ.setdefault(variable, value)
    settings_before = set(dependencies.settings_read)
    project = loader.load_project()
    run_variable = os.environ.get("MLOPS_RUN")
    if run_variable:
        # An edit of mlops.yaml during a run does not reach the run.
        project = load_recorded_project(project, Path(run_variable))
    overrides = select_overrides(name, parameters)
    project = project.with_values("the notebook's parameters", **overrides)
    if not run_variable:  # a run has the days among its settings
        project, _ = leave_out_quarantined_days(project)
    project = source.resolve_cutoffs(project)
    if name not in project.config.stages:
        raise KitError(f"unknown stage {name!r}", suggest_names(name, project.config.stages))
    os.chdir(project.get_working_folder(name))
    show_column_labels(project)
    run = Path(run_variable) if run_variable else project.reports_folder / _DRAFT_FOLDER
    run.mkdir(parents=True, exist_ok=True)
    stage = Stage(name, project, run, draft=not run_variable)
    stage.record.opened_at = time.time()
    display(stage)
    dependencies.watch_project_files(str(project.root), str(project.reports_folder))
    # Settings that were read only to open and display the stage do not affect its result.
    dependencies.settings_read.intersection_update(settings_before)
    return stage
