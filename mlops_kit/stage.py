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

from mlops_kit import config as configs
from mlops_kit import sources, store, trace
from mlops_kit.errors import KitError, RunFailed, nearest
from mlops_kit.results import Figure, Numbers, Table, Verdict, Verdicts, plain

if TYPE_CHECKING:
    import pandas as pd

# No telemetry; and threads that wait for one another spin but shortly: on cores that others use too, a fit of two
# threads took several times as long (bench/threads.py). OpenMP reads this when its library is loaded, with scikit-learn.
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GOMP_SPINCOUNT": "1000"}
WAITING = "waiting (approval)"  # status of a run that a person has to decide on
RECORD = "stages"  # folder of a run in which each stage files what it did


def runs(reports: Path) -> list[Path]:
    """The recorded runs, the newest first (their names begin with the moment of the start)."""
    found = [p.parent for p in reports.glob("*/manifest.json")] if reports.is_dir() else []
    return sorted(found, key=lambda p: p.name, reverse=True)


def records(run: Path) -> dict[str, dict[str, Any]]:
    """What the stages of a run filed, by stage."""
    return {p.stem: store.read_json(p) for p in sorted((run / RECORD).glob("*.json"))}


def artifacts(run: Path) -> dict[str, store.Artifact]:
    """All artifacts of a run, by name."""
    return {
        name: store.Artifact(**entry)
        for record in records(run).values()
        for name, entry in record["artifacts"].items()
    }


def recorded(project: configs.Project, run: Path) -> configs.Project:
    """The project with the config that a run was started with."""
    return configs.Project(
        project.root, configs.validated(store.read_json(run / "config.json"), "config.json")
    )


class Stage:
    """What a notebook holds; made by ``open``."""

    def __init__(self, name: str, project: configs.Project, run: Path, draft: bool) -> None:
        self.name, self.project, self.run, self._draft = name, project, run, draft
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
    def draft(self) -> bool:
        """Whether the stage is run by hand; whoever asks does something else then, so that no run takes it over."""
        self.record["apart"] = True
        return self._draft

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
        return self.run.name

    @property
    def as_of(self) -> Any:
        """The moment after which stages 1 to 4 see nothing (UTC), or None."""
        return self._moment(self.config.as_of)

    @property
    def until(self) -> Any:
        """The moment up to which deploy, monitor and retrain see (UTC), or None."""
        return self._moment(self.config.until)

    def _moment(self, when: Any) -> Any:
        import pandas as pd

        return None if when is None else pd.Timestamp(self.config.utc(when))

    def source(self, known_by: Any = None) -> pd.DataFrame:
        """The source as it was known at ``as_of``, or at the moment given."""
        return sources.read(self.project, known_by if known_by is not None else self.as_of)

    def thin(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The sample of a quick trial run; all rows otherwise."""
        return sources.thinned(self.project, rows, self.sample)

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
        from mlops_kit import contract as contracts

        file = self.project.path(self.config.contract.file)
        if not file.exists():
            contracts.save(file, contracts.infer(rows, self.config))
        report, good, bad = contracts.check(
            rows, contracts.load(file), self.config.contract.bad_rows
        )
        self.write("contract_report", report)
        contracts.enforce(report)
        return report, good, bad

    def read(self, name: str) -> Any:
        """An artifact by name: from this run; by hand from the draft or the latest run, the newer one."""
        places = [self.run] if not self._draft else self._places()
        for place in places:
            known = artifacts(place)
            if name in known:
                self.record["read"][name] = known[name].content or known[name].sha256
                return store.read_artifact(place, known[name])
        if self._draft and len(places) == 1:
            raise KitError(
                f"{name!r} cannot be read: there is no run yet",
                "a run that has made it",
                "mlops run",
            )
        have = {n for place in places for n in artifacts(place)}
        raise KitError(
            f"no artifact {name!r} in {', '.join(p.name for p in places)}",
            nearest(name, have) if have else "a run that has got that far",
            "mlops run",
        )

    def _places(self) -> list[Path]:
        latest = [
            r
            for r in runs(self.project.reports)
            if store.read_json(r / "manifest.json")["sample"] == self.sample
        ][:1]
        mine = self.run / RECORD
        newer = (
            latest
            and mine.is_dir()
            and mine.stat().st_mtime > (latest[0] / "manifest.json").stat().st_mtime
        )
        return [self.run, *latest] if newer or not latest else [*latest, self.run]

    def write(
        self,
        name: str,
        value: Any,
        volatile: Iterable[str] = (),
        record: bool = False,
        partition: str = "",
    ) -> None:
        """File a table, a result or a document under a name; see ``store.write_artifact``."""
        made = store.write_artifact(self.run, self.name, name, value, volatile, record, partition)
        made.made_from = dict(self.record["read"])
        self.record["artifacts"][name] = made.model_dump()
        self._file()

    def log(self, **numbers: Any) -> None:
        """Put numbers into the run's record; MLflow gets them when the stage has ended."""
        self.record["logged"].update(numbers)
        self._file()

    def result(self, **values: Any) -> None:
        """Return typed values from the stage: numbers, text, truth values, None, lists and dicts of these.

        Raises
        ------
        KitError
            For a value that would not come back as it is.
        """
        for name, value in values.items():
            if json.loads(json.dumps(plain(value))) != value:
                raise KitError(
                    f"the result {name!r} is a {type(value).__name__}, which would not come back as it is",
                    "a number, text, True or False, None, a list or a dict with text keys",
                    "stage.write files tables and results",
                )
        self.write(f"{self.name}_result", values)

    def result_of(self, stage: str) -> dict[str, Any]:
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
            "numbers": plain(result.items) if isinstance(result, Numbers) else [],
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
            path = self.run / "figures" / self.name / f"{same:02d}.svg"
            store.write_text(path, result.svg)
            entry["figure"] = str(path.relative_to(self.run))
        shown[same : same + 1] = [entry]  # a cell that is run again replaces what it showed
        self._file()
        display(result)

    def verdicts(self, found: Iterable[Verdict], stop: bool = True) -> None:
        """Show verdicts and file them; stop the stage if one of them blocks.

        A sample goes on whatever they say: it is there to try the whole chain, and is never promoted.

        Raises
        ------
        RunFailed
            Naming what blocks, unless ``stop`` is False or the run is a sample.
        """
        from IPython.display import display

        table = Verdicts.of(found)
        again = {v.check for v in table}
        self.record["verdicts"] = [
            v for v in self.record["verdicts"] if v["check"] not in again
        ] + [v.to_json_dict() for v in table]
        self._file()
        display(table)
        blocking = [v for v in table if v.blocks]
        if stop and blocking and not self.sample:
            raise RunFailed(blocking[0].sentence, blocking[0].limit, blocking[0].cure)

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
            if n not in made and not store.is_file_name(n)
        ]
        if absent:
            raise RunFailed(
                f"{self.name} did not write {absent[0]!r}",
                f"stage.write({absent[0]!r}, …) before hand_over",
                "or take it out of stages." + self.name + ".writes",
            )
        self.record.update(sentence=sentence, done=True)
        if self._draft:
            self.record["by_hand"] = by_hand()
        self._file()
        rows = [(n, a["kind"], a["rows"], (a["content"] or "")[:12]) for n, a in made.items()]
        display(
            Table(
                "What this stage hands on",
                sentence,
                pd.DataFrame(rows, columns=["artifact", "kind", "rows", "content"]),
            )
        )

    def _file(self) -> None:
        store.write_json(self.run / RECORD / f"{self.name}.json", self.record)

    def cache_path(self, name: str) -> Path:
        """A file of the project that outlives the run, such as a study that can be resumed."""
        path = self.project.path(".mlops") / "cache" / name
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
                if (f := getattr(m, "__file__", None)) and trace.own(f) and os.path.exists(f)
            }
        )
        code = trace.cell_hash(
            inspect.getsource(function) + "".join(store.sha256(Path(f)) for f in files)
        )

        @functools.wraps(function)
        def whole(*args: Any, **given: Any) -> Any:
            return trace.noted(lambda: function(*args, **given))

        kept = Memory(self.cache_path(f"steps/{code}"), verbose=0).cache(whole)

        def cached(*args: Any, **given: Any) -> Any:
            result, used = kept(*args, **given)
            trace.used_again(used)
            return result

        return cached

    def save_models(
        self, judged: Any, model: Any, example: pd.DataFrame, recipe: dict[str, Any], trials: Table
    ) -> None:
        """Log the search, the judged and the final model in MLflow; file where they are as ``model``."""
        from mlops_kit import tracking

        facts = {
            "threshold": recipe["threshold"],
            "classes": [0, 1] if self.config.task == "binary" else None,
            "target": self.config.target,
            "sample": self.sample,
        }
        tags = {
            "mlflow.runName": f"{self.name} of {self.run_id}",
            "draft": str(self._draft),
            "run": self.run_id,
            **{f"data.{n}": h for n, h in self.record["read"].items()},
        }
        saved = tracking.log_training(
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
        self._file()

    def model(self, which: str = "model") -> Any:
        """The fitted pipeline: ``model`` (final) or ``judged``."""
        from mlops_kit import tracking

        entry = self.read("model")
        return tracking.load_model(self.project, entry if which == "model" else entry[which])

    @property
    def alerts_file(self) -> Path:
        """The project's file of alerts; by hand the draft's."""
        return (
            self.run / "alerts.jsonl"
            if self.draft
            else self.project.path(self.config.monitor.alerts)
        )

    def _repr_html_(self) -> str:
        where = "draft" if self._draft else f"run {self.run_id}"
        marked = f" · <b>sample of {self.sample:,} rows</b>" if self.sample else ""
        period = (
            f" · as of {self.as_of:%Y-%m-%d}, until {self.until:%Y-%m-%d}"
            if self.as_of is not None
            else ""
        )
        return f"<p>{html.escape(self.config.name)} · {self.name} · {where}{period}{marked}</p>"


def by_hand() -> dict[str, Any]:
    """What was run in this kernel, and what it used: by it a run can take over a stage that was run by hand."""
    from IPython import get_ipython

    shell = get_ipython()
    run = [] if shell is None else list(shell.user_ns["In"][1:])
    names = {} if shell is None else shell.user_ns
    return {
        "ran": [trace.cell_hash(c) for c in run],
        "values": {
            n: v
            for n, v in names.items()
            if n[0] != "_" and isinstance(v, (str, int, float, bool, list, dict, type(None)))
        },
        "used": trace.report(exact=False),
        "at": time.time(),
    }


def open(name: str, **given: Any) -> Stage:  # noqa: A001 - reads as stage.open in a notebook
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

    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    before = set(trace.settings)
    project = configs.load()
    named = os.environ.get("MLOPS_RUN")
    if named:  # an edit of mlops.yaml while a run goes on does not reach it
        project = recorded(project, Path(named))
    laid = {
        k: v
        for k, v in given.items()
        if v not in ("", None) and not (k in {"seed", "sample"} and v == 0)
    }
    project = sources.settled(project.with_values("the notebook's parameters", **laid))
    if name not in project.config.stages:
        raise KitError(f"unknown stage {name!r}", nearest(name, project.config.stages))
    os.chdir(
        project.root
    )  # JupyterLab starts a kernel in its notebook's folder, the pipeline in the project's
    run = Path(named) if named else project.reports / "draft"
    run.mkdir(parents=True, exist_ok=True)
    stage = Stage(name, project, run, draft=not named)
    stage.record["opened"] = time.time()
    display(stage)
    trace.watch_files(str(project.root), str(project.reports))
    trace.settings.intersection_update(
        before
    )  # what was read to open the stage and to show it, its result does not hang on
    return stage
