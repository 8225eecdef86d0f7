"""Windows: a stretch of time is looked at once when it has ended, and settled once when its labels are due.

What is found is plain JSON in the project's database; the dashboards read it and compute nothing.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Interval, Table, Verdict, Verdicts
from mlops_kit.core.serialization import to_json_value
from mlops_kit.data.columns import format_local_days, list_feature_columns
from mlops_kit.project import artifacts, loader, run_folder
from mlops_kit.project.config import root
from mlops_kit.registry.versions import ModelVersion
from mlops_kit.stages.monitor import alerts, drift, estimate
from mlops_kit.stages.monitor.realized import get_reference_performance, measure_labeled_rows
from mlops_kit.stats.metrics import METRICS


def count_trailing_true(flags: list[bool]) -> int:
    """How many true ones stand at the end.

    >>> run_of([True, False, True, True])
    2
    """
    return next((i for i, flag in enumerate(reversed(flags)) if not flag), len(flags))


_COSTED_DRIFT_STATUSES = (
    "alert",
    "watch",
    "new category",
    "infinite",
)  # words of a drift whose cost is worth asking for


class ReferenceData(NamedTuple):
    """What a version was judged on: its rows with ``score`` and the target, its promise, its calibration."""

    feature_names: list[str]
    rows: pd.DataFrame
    performance: Interval | None
    calibrator: Any


def load_reference(project: loader.Project, facts: ModelVersion) -> ReferenceData:
    """The reference of a version, from the run that made it.

    Parameters
    ----------
    facts : ModelVersion
        The version as the registry describes it.

    Raises
    ------
    RunFailed
        If the run's folder is gone, for then nothing can be compared.
    """
    run, config, own = (
        project.reports_folder / facts.run,
        project.config,
        list(facts.features),
    )
    known = run_folder.list_artifacts(run)
    if absent := [n for n in ("features", "held_out_scores", "metrics") if n not in known]:
        raise RunFailedError(
            f"the run {facts.run} that made version {facts.version} has no artifact {absent[0]!r} any more",
            f"its folder in {config.reports}/",
            "put it back, or mlops run",
        )
    table, judged, quality = (
        artifacts.read_artifact(run, known[n]) for n in ("features", "held_out_scores", "metrics")
    )
    keys = config.id or ["row_id"]
    rows = table.loc[
        table["part"] == "test", list(dict.fromkeys([*keys, *list_feature_columns(config, table)]))
    ].merge(judged[[*keys, config.target, drift.SCORE_COLUMN]], on=keys)
    return ReferenceData(
        own,
        rows,
        get_reference_performance(quality, config),
        estimate.fit_calibrator(rows[drift.SCORE_COLUMN], rows[config.target]),
    )


def list_ended_windows(
    since: datetime, upto: datetime, length: timedelta
) -> list[tuple[datetime, datetime]]:
    """The windows from ``since`` on that have ended by ``upto``: they follow one another without a gap."""
    count = max(0, (upto - since) // length)
    return [(since + i * length, since + (i + 1) * length) for i in range(count)]


def analyze_unlabeled_window(
    project: loader.Project, known: ReferenceData, found: pd.DataFrame, inputs: pd.DataFrame
) -> dict[str, Any]:
    """What can be said of a window without labels.

    Parameters
    ----------
    found : DataFrame
        The window's answers (``predictions.between``).
    inputs : DataFrame
        Their features, in the same order.

    Returns
    -------
    dict
        rows, flagged and mean_score; ``estimated`` (Interval of the headline metric); ``drift`` (Table
        with the cost of each column beside it); ``sketches`` by column; ``verdicts``; ``names`` of the
        versions that answered, with their rows.
    """
    config = project.config
    columns = [c for c in known.feature_names if c in known.rows]
    before, now = (
        known.rows[[*columns, drift.SCORE_COLUMN]],
        inputs.assign(**{drift.SCORE_COLUMN: found[drift.SCORE_COLUMN].to_numpy(float)}),
    )
    schema, table = (
        drift.check_schema(before, now),
        drift.measure_drift(before, now, before.columns, config.monitor, config.seed),
    )
    moved = (
        table.data.loc[table.data["word"].isin(_COSTED_DRIFT_STATUSES), "column"].tolist()
        if len(table.data)
        else []
    )
    priced = (
        estimate.estimate_drift_costs(known.rows, now, moved, config)
        if config.task == "binary" and len(found)
        else {}
    )
    table = Table(
        table.title,
        table.sentence,
        table.data.assign(cost=[priced.get(c, math.nan) for c in table.data["column"]]),
        notes=table.notes,
        visible_columns=table.visible_columns,
    )
    expected = (
        estimate.estimate_performance(
            found[drift.SCORE_COLUMN],
            format_local_days(found["moment"], config),
            known.calibrator,
            config,
            config.seed,
        )
        if len(found)
        else Interval(None)
    )
    verdicts = Verdicts.from_verdicts(
        [
            schema,
            alerts.check_feature_drift(table, config),
            alerts.check_prediction_drift(table, config),
        ]
    )
    sketches = {
        c: estimate.compare_distributions(before[c], now[c])
        for c in before
        if c in now and len(now)
    }
    counted = found["version"].value_counts().to_dict()
    sums = {
        "rows": len(found),
        "flagged": _compute_mean(found["decision"]),
        "mean_score": _compute_mean(found["score"]),
    }
    return cast(
        dict[str, Any],
        to_json_value(
            {
                **sums,
                "estimated": expected,
                "drift": table,
                "sketches": sketches,
                "verdicts": verdicts,
                "names": counted,
            }
        ),
    )


def _compute_mean(values: pd.Series) -> float | None:
    """A mean, None where there is nothing to take it of."""
    return float(values.mean()) if values.notna().any() else None


def analyze_labeled_window(
    project: loader.Project,
    known: ReferenceData,
    found: pd.DataFrame,
    looked: dict[str, Any],
    gaps_before: int,
) -> dict[str, Any]:
    """What the labels say of a window.

    Parameters
    ----------
    looked : dict
        What ``look`` said of it, revived.
    gaps_before : int
        Windows in a row before this one in which realised lay below estimated.

    Returns
    -------
    dict
        ``labelled`` rows; ``realised`` (Table); ``cost`` and ``saved`` (a row, and all of the window's
        labelled rows against the cheaper blind rule), None without a decision; ``gap``; ``verdicts``.
    """
    config = project.config
    rows = pd.DataFrame(
        {
            config.time: found["moment"],
            config.target: found["label"],
            drift.SCORE_COLUMN: found[drift.SCORE_COLUMN],
        }
    )
    table = measure_labeled_rows(rows, config, known.performance, config.seed)
    far = _is_below_estimate(table, looked["estimated"], config)
    verdicts = Verdicts.from_verdicts(
        [
            *looked["verdicts"],
            alerts.check_realized_performance(table, config),
            _check_concept_drift(far, gaps_before, table, looked["estimated"], config),
        ]
    )
    labelled = found[found["label"].notna()]
    return cast(
        dict[str, Any],
        to_json_value(
            {
                "labelled": len(labelled),
                "realised": table,
                **_compute_window_cost(labelled, config),
                "gap": far,
                "verdicts": verdicts,
            }
        ),
    )


def _compute_window_cost(
    labelled: pd.DataFrame, config: root.ProjectConfig
) -> dict[str, float | None]:
    """What the decisions on the labelled rows cost each, and what they saved in all against flagging every row or none."""
    y, flagged = labelled["label"].to_numpy(float), labelled["decision"].to_numpy(float)
    if not len(y) or labelled["decision"].isna().any():
        return {"cost": None, "saved": None}
    own = float(
        (config.cost.false_alarm * flagged * (1 - y) + config.cost.miss * (1 - flagged) * y).sum()
    )
    blind = min(config.cost.false_alarm * float((1 - y).sum()), config.cost.miss * float(y.sum()))
    return {"cost": own / len(y), "saved": blind - own}


def _is_below_estimate(table: Table, expected: Interval, config: root.ProjectConfig) -> bool:
    """Whether all of the realised interval is worse than the estimate."""
    metric, found = (
        METRICS[config.headline_metric],
        table.to_intervals().get(config.headline_metric, Interval(None)),
    )
    end = found.high if metric.greater_is_better else found.low
    return (
        end is not None
        and expected.value is not None
        and metric.compute_gain(end, expected.value) < 0
    )


def _check_concept_drift(
    far: bool, before: int, table: Table, expected: Interval, config: root.ProjectConfig
) -> Verdict:
    """Whether the labels have been worse than the probabilities promise for some windows in a row: concept drift."""
    title, need = "What it learnt still holds", config.watch.min_drifted_windows
    limit = f"not below the estimate in {need} windows in a row"
    if expected.value is None or table.data.empty:
        return Verdict(
            "gap",
            title,
            CheckOutcome.NOT_APPLICABLE,
            CheckSeverity.WARNS,
            "There is no estimate to hold the labels against.",
        )
    value = table.to_intervals()[config.headline_metric].value
    if value is None:
        return Verdict(
            "gap",
            title,
            CheckOutcome.CANNOT_TELL,
            CheckSeverity.WARNS,
            table.sentence,
            limit=limit,
            hint="wait for labels",
        )
    said = f"{METRICS[config.headline_metric].title} realised {format_number(value)}, estimated {expected}"
    if far and before + 1 >= need:
        return Verdict(
            "gap",
            title,
            CheckOutcome.FAILED,
            CheckSeverity.WARNS,
            f"{said}: below for {before + 1} windows in a row; what the model learnt no longer holds.",
            said,
            limit,
            "retrain on recent rows",
        )
    return Verdict("gap", title, CheckOutcome.PASSED, CheckSeverity.WARNS, f"{said}.", said, limit)
