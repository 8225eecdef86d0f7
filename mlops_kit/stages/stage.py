"""A notebook's handle on its run: read, write, log, show, hand over.

In the pipeline a stage reads and writes its own run (the engine names it in ``MLOPS_RUN``). By hand,
in JupyterLab or by plain papermill, it reads the newest draft or the latest run, whichever is newer,
and writes ``reports/draft/``: a recorded run is never touched, and a draft is never promoted.
"""

from __future__ import annotations

import html
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_kit.core import dependencies, import_tracer
from mlops_kit.core.environment import DEFAULT_ENVIRONMENT_VARIABLES
from mlops_kit.core.errors import KitError, RunFailedError, suggest_names
from mlops_kit.core.files import hash_file, read_json, write_json, write_text
from mlops_kit.core.results import Figure, KeyNumbers, Table, Verdict, Verdicts
from mlops_kit.core.serialization import to_json_value
from mlops_kit.data.source import draw_sample, read_source, resolve_cutoffs
from mlops_kit.project import artifacts, loader
from mlops_kit.project.run_folder import (
    STAGE_RECORDS_FOLDER,
    list_artifacts,
    list_run_folders,
    load_recorded_project,
)

if TYPE_CHECKING:
    import pandas as pd


class Stage:
    """What a notebook holds; made by ``open``."""

    def __init__(self, name: str, project: loader.Project, run: Path, draft: bool) -> None:
        self.name, self.project, self.run_folder, self._is_draft = name, project, run, draft
        self.config = project.config
        self.record: dict[str, Any] = {
            "stage": name,
            "artifacts": {},
            "logged": {},
            "shown": [],
            "verdicts": [],
            "sentence": "",
            "read": {},
        }

    @property
    def is_draft(self) -> bool:
        """Whether the stage is run by hand; whoever asks does something else then, so that no run takes it over."""
        self.record["apart"] = True
        return self._is_draft

    @property
    def seed(self) -> int:
        """The seed of all that is random."""
        return self.config.seed

    @property
    def sample(self) -> int:
        """Rows of a quick trial run; 0 for all."""
        return self.config.sample

    @property
    def run_id(self) -> str:
        """The run's name; ``draft`` by hand."""
        return self.run_folder.name

    @property
    def as_of(self) -> Any:
        """The moment after which stages 1 to 4 see nothing (UTC), or None."""
        return self._parse_timestamp(self.config.as_of)

    @property
    def until(self) -> Any:
        """The moment up to which deploy, monitor and retrain see (UTC), or None."""
        return self._parse_timestamp(self.config.until)

    def _parse_timestamp(self, when: Any) -> Any:
        import pandas as pd

        return None if when is None else pd.Timestamp(self.config.to_utc(when))

    def read_source(self, known_by: Any = None) -> pd.DataFrame:
        """The source as it was known at ``as_of``, or at the moment given."""
        return read_source(self.project, known_by if known_by is not None else self.as_of)

    def limit_to_sample(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The sample of a quick trial run; all rows otherwise."""
        return draw_sample(self.project, rows, self.sample)

    def check_contract(self, rows: pd.DataFrame) -> tuple[Any, pd.DataFrame, pd.DataFrame]:
        """Hold rows to the project's contract, inferred from them and saved if there is none yet.

        Returns
        -------
        report, good rows, quarantined rows

        Raises
        ------
        RunFailed
            If the contract is broken; the report is filed first.
        """
        from mlops_kit.data import contract, contract_inference, contract_validation

        file = self.project.resolve_path(self.config.contract.file)
        if not file.exists():
            contract.save_contract(file, contract_inference.infer_contract(rows, self.config))
        report, good, bad = contract_validation.validate_rows_against_contract(
            rows, contract.load_contract(file), self.config.contract.max_quarantined_share
        )
        self.write("contract_report", report)
        contract_validation.enforce_contract(report)
        return report, good, bad

    def read(self, name: str) -> Any:
        """An artifact by name: from this run; by hand from the draft or the latest run, the newer one."""
        places = [self.run_folder] if not self._is_draft else self._list_read_folders()
        for place in places:
            known = list_artifacts(place)
            if name in known:
                self.record["read"][name] = known[name].content or known[name].sha256
                return artifacts.read_artifact(place, known[name])
        if self._is_draft and len(places) == 1:
            raise KitError(
                f"{name!r} cannot be read: there is no run yet",
                "a run that has made it",
                "mlops run",
            )
        have = {n for place in places for n in list_artifacts(place)}
        raise KitError(
            f"no artifact {name!r} in {', '.join(p.name for p in places)}",
            suggest_names(name, have) if have else "a run that has got that far",
            "mlops run",
        )

    def _list_read_folders(self) -> list[Path]:
        latest = [
            r
            for r in list_run_folders(self.project.reports_folder)
            if read_json(r / "manifest.json")["sample"] == self.sample
        ][:1]
        mine = self.run_folder / STAGE_RECORDS_FOLDER
        newer = (
            latest
            and mine.is_dir()
            and mine.stat().st_mtime > (latest[0] / "manifest.json").stat().st_mtime
        )
        return [self.run_folder, *latest] if newer or not latest else [*latest, self.run_folder]

    def write(
        self,
        name: str,
        value: Any,
        volatile: Iterable[str] = (),
        record: bool = False,
        partition: str = "",
    ) -> None:
        """File a table, a result or a document under a name; see ``store.write_artifact``."""
        run, stage = self.run_folder, self.name
        if partition:
            made = artifacts.write_partitioned_artifact(
                run, stage, name, value, partition, volatile
            )
        else:
            made = artifacts.write_artifact(run, stage, name, value, volatile, record)
        made.made_from = dict(self.record["read"])
        self.record["artifacts"][name] = made.model_dump()
        self._save_record()

    def log(self, **numbers: Any) -> None:
        """Put numbers into the run's record; MLflow gets them when the stage has ended."""
        self.record["logged"].update(numbers)
        self._save_record()

    def write_result(self, **values: Any) -> None:
        """Return typed values from the stage: numbers, text, truth values, None, lists and dicts of these.

        Raises
        ------
        KitError
            For a value that would not come back as it is.
        """
        for name, value in values.items():
            if json.loads(json.dumps(to_json_value(value))) != value:
                raise KitError(
                    f"the result {name!r} is a {type(value).__name__}, which would not come back as it is",
                    "a number, text, True or False, None, a list or a dict with text keys",
                    "stage.write files tables and results",
                )
        self.write(f"{self.name}_result", values)

    def read_result(self, stage: str) -> dict[str, Any]:
        """The typed values that another stage returned."""
        found: dict[str, Any] = self.read(f"{stage}_result")
        return found

    def show(self, result: Any, front: bool = False) -> None:
        """Display a result and file it: its sentence and its numbers into the record, a figure as SVG.

        ``front`` marks the figure that stands for the stage on the run's page.
        """
        from IPython.display import display

        title, shown = getattr(result, "title", type(result).__name__), self.record["shown"]
        entry = {
            "title": title,
            "sentence": getattr(result, "sentence", ""),
            "figure": None,
            "front": front,
            "numbers": to_json_value(result.items) if isinstance(result, KeyNumbers) else [],
        }
        same = next(
            (
                i
                for i, e in enumerate(shown)
                if e["title"] == title and bool(e["figure"]) == isinstance(result, Figure)
            ),
            len(shown),
        )
        if isinstance(result, Figure):
            path = self.run_folder / "figures" / self.name / f"{same:02d}.svg"
            write_text(path, result.svg)
            entry["figure"] = str(path.relative_to(self.run_folder))
        shown[same : same + 1] = [entry]  # a cell that is run again replaces what it showed
        self._save_record()
        display(result)

    def enforce_verdicts(self, found: Iterable[Verdict], stop: bool = True) -> None:
        """Show verdicts and file them; stop the stage if one of them blocks.

        A sample goes on whatever they say: it is there to try the whole chain, and is never promoted.

        Raises
        ------
        RunFailed
            Naming what blocks, unless ``stop`` is False or the run is a sample.
        """
        from IPython.display import display

        table = Verdicts.from_verdicts(found)
        again = {v.check for v in table}
        self.record["verdicts"] = [
            v for v in self.record["verdicts"] if v["check"] not in again
        ] + [v.to_json_dict() for v in table]
        self._save_record()
        display(table)
        blocking = [v for v in table if v.is_blocking]
        if stop and blocking and not self.sample:
            raise RunFailedError(blocking[0].sentence, blocking[0].limit, blocking[0].hint)

    def hand_over(self, sentence: str) -> None:
        """Close the stage: its sentence, and the artifacts it promised.

        Raises
        ------
        RunFailed
            If a promised artifact was not written.
        """
        import pandas as pd
        from IPython.display import display

        made = self.record["artifacts"]
        absent = [
            n
            for n in self.config.stages[self.name].writes
            if n not in made and not artifacts.is_project_file_name(n)
        ]
        if absent:
            raise RunFailedError(
                f"{self.name} did not write {absent[0]!r}",
                f"stage.write({absent[0]!r}, …) before hand_over",
                "or take it out of stages." + self.name + ".writes",
            )
        self.record.update(sentence=sentence, done=True)
        if self._is_draft:
            self.record["by_hand"] = _describe_manual_execution()
        self._save_record()
        rows = [(n, a["kind"], a["rows"], (a["content"] or "")[:12]) for n, a in made.items()]
        display(
            Table(
                "What this stage hands on",
                sentence,
                pd.DataFrame(rows, columns=["artifact", "kind", "rows", "content"]),
            )
        )

    def _save_record(self) -> None:
        write_json(self.run_folder / STAGE_RECORDS_FOLDER / f"{self.name}.json", self.record)

    def cache_path(self, name: str) -> Path:
        """A file of the project that outlives the run, such as a study that can be resumed."""
        path = self.project.resolve_path(".mlops") / "cache" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def cache(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function whose results are kept for the next time, by its code and its arguments: for the dear steps of a stage.

        ``fitted = stage.cache(fit.fit)(family, params, frame, …)`` is quick when the notebook runs again after a
        failure. What the project's own modules say counts as its code, all of it. (joblib's Memory, in ``.mlops/cache``.)
        """
        import functools
        import inspect

        from joblib import Memory

        files = sorted(
            {
                f
                for m in list(sys.modules.values())
                if (f := getattr(m, "__file__", None))
                and import_tracer.is_local_module_file(f)
                and os.path.exists(f)
            }
        )
        code = dependencies.hash_code(
            inspect.getsource(function) + "".join(hash_file(Path(f)) for f in files)
        )

        @functools.wraps(function)
        def whole(*args: Any, **given: Any) -> Any:
            return dependencies.record_dependencies(lambda: function(*args, **given))

        kept = Memory(self.cache_path(f"steps/{code}"), verbose=0).cache(whole)

        def cached(*args: Any, **given: Any) -> Any:
            result, used = kept(*args, **given)
            dependencies.restore_dependencies(used)
            return result

        return cached

    def save_models(
        self, judged: Any, model: Any, example: pd.DataFrame, recipe: dict[str, Any], trials: Table
    ) -> None:
        """Log the search, the judged and the final model in MLflow; file where they are as ``model``."""
        from mlops_kit.registry import run_log

        facts = {
            "threshold": recipe["threshold"],
            "classes": [0, 1] if self.config.task == "binary" else None,
            "target": self.config.target,
            "sample": self.sample,
        }
        tags = {
            "mlflow.runName": f"{self.name} of {self.run_id}",
            "draft": str(self._is_draft),
            "run": self.run_id,
            **{f"data.{n}": h for n, h in self.record["read"].items()},
        }
        saved = run_log.log_training_run(
            self.project,
            {"judged": judged, "model": model},
            example,
            facts,
            (trials.data, recipe),
            tags,
        )
        self.record["mlflow_run"] = saved["run"]
        entry = {
            **saved["model"],
            "judged": saved["judged"],
            "features": list(example.columns),
            "threshold": recipe["threshold"],
        }
        self.write("model", entry, record=True)
        self.record["artifacts"]["model"]["content"] = saved["model"]["model_hash"]
        self._save_record()

    def load_model(self, which: str = "model") -> Any:
        """The fitted pipeline: ``model`` (final) or ``judged``."""
        from mlops_kit.registry import models

        entry = self.read("model")
        return models.load_model(self.project, entry if which == "model" else entry[which])

    @property
    def alerts_file(self) -> Path:
        """The project's file of alerts; by hand the draft's."""
        return (
            self.run_folder / "alerts.jsonl"
            if self.is_draft
            else self.project.resolve_path(self.config.monitor.alerts_file)
        )

    def _repr_html_(self) -> str:
        where = "draft" if self._is_draft else f"run {self.run_id}"
        marked = f" · <b>sample of {self.sample:,} rows</b>" if self.sample else ""
        period = (
            f" · as of {self.as_of:%Y-%m-%d}, until {self.until:%Y-%m-%d}"
            if self.as_of is not None
            else ""
        )
        return f"<p>{html.escape(self.config.name)} · {self.name} · {where}{period}{marked}</p>"


def _describe_manual_execution() -> dict[str, Any]:
    """What was run in this kernel, and what it used: by it a run can take over a stage that was run by hand."""
    from IPython import get_ipython

    shell = get_ipython()
    run = [] if shell is None else list(shell.user_ns["In"][1:])
    names = {} if shell is None else shell.user_ns
    return {
        "ran": [dependencies.hash_code(c) for c in run],
        "values": {
            n: v
            for n, v in names.items()
            if n[0] != "_" and isinstance(v, (str, int, float, bool, list, dict, type(None)))
        },
        "used": dependencies.report_dependencies(exact=False),
        "at": time.time(),
    }


def open_stage(name: str, **given: Any) -> Stage:
    """Open a stage: two lines at the top of a notebook.

    Parameters
    ----------
    name : str
        The stage's name.
    **given
        Values of the parameters cell that stand over ``mlops.yaml`` (``as_of``, ``until``,
        ``sample``, ``seed``); an empty one leaves it as it is.
    """
    from IPython.display import display

    for key, value in DEFAULT_ENVIRONMENT_VARIABLES.items():
        os.environ.setdefault(key, value)
    before = set(dependencies.settings_read)
    project = loader.load_project()
    named = os.environ.get("MLOPS_RUN")
    if named:  # an edit of mlops.yaml while a run goes on does not reach it
        project = load_recorded_project(project, Path(named))
    laid = {
        k: v
        for k, v in given.items()
        if v not in ("", None) and not (k in {"seed", "sample"} and v == 0)
    }
    project = resolve_cutoffs(project.with_values("the notebook's parameters", **laid))
    if name not in project.config.stages:
        raise KitError(f"unknown stage {name!r}", suggest_names(name, project.config.stages))
    os.chdir(
        project.root
    )  # JupyterLab starts a kernel in its notebook's folder, the pipeline in the project's
    run = Path(named) if named else project.reports_folder / "draft"
    run.mkdir(parents=True, exist_ok=True)
    stage = Stage(name, project, run, draft=not named)
    stage.record["opened"] = time.time()
    display(stage)
    dependencies.watch_project_files(str(project.root), str(project.reports_folder))
    dependencies.settings_read.intersection_update(
        before
    )  # what was read to open the stage and to show it, its result does not hang on
    return stage
