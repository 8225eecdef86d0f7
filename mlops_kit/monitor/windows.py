"""Windows: a stretch of time is looked at once when it has ended, and settled once when its labels are due.

What is found is plain JSON in the project's database; the dashboards read it and compute nothing.
"""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast

from mlops_kit import config as configs
from mlops_kit import stage as stages
from mlops_kit import store
from mlops_kit.errors import RunFailed
from mlops_kit.features import names
from mlops_kit.late import pd
from mlops_kit.metrics import METRICS
from mlops_kit.monitor import alerts, drift, estimate
from mlops_kit.monitor.realised import days, measured, promised
from mlops_kit.results import Interval, Table, Verdict, Verdicts, number, plain

JUDGED = (
    "alert",
    "watch",
    "new category",
    "infinite",
)  # words of a drift whose cost is worth asking for


class Reference(NamedTuple):
    """What a version was judged on: its rows with ``score`` and the target, its promise, its calibration."""

    features: list[str]
    rows: pd.DataFrame
    promise: Interval | None
    calibrated: Any


def reference(project: configs.Project, facts: dict[str, Any]) -> Reference:
    """The reference of a version, from the run that made it.

    Parameters
    ----------
    facts : dict
        ``tracking.facts_of``: ``version``, ``run``, ``features`` (JSON text).

    Raises
    ------
    RunFailed
        If the run's folder is gone, for then nothing can be compared.
    """
    run, config, own = project.reports / facts["run"], project.config, json.loads(facts["features"])
    known = stages.artifacts(run)
    if absent := [n for n in ("features", "judged_scores", "metrics") if n not in known]:
        raise RunFailed(
            f"the run {facts['run']} that made version {facts['version']} has no artifact {absent[0]!r} any more",
            f"its folder in {config.reports}/",
            "put it back, or mlops run",
        )
    table, judged, quality = (
        store.read_artifact(run, known[n]) for n in ("features", "judged_scores", "metrics")
    )
    keys = config.id or ["row_id"]
    rows = table.loc[
        table["part"] == "test", list(dict.fromkeys([*keys, *names(config, table)]))
    ].merge(judged[[*keys, config.target, drift.SCORE]], on=keys)
    return Reference(
        own,
        rows,
        promised(quality, config),
        estimate.calibrator(rows[drift.SCORE], rows[config.target]),
    )


def ended(since: datetime, upto: datetime, length: timedelta) -> list[tuple[datetime, datetime]]:
    """The windows from ``since`` on that have ended by ``upto``: they follow one another without a gap."""
    count = max(0, (upto - since) // length)
    return [(since + i * length, since + (i + 1) * length) for i in range(count)]


def look(
    project: configs.Project, known: Reference, found: pd.DataFrame, inputs: pd.DataFrame
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
    columns = [c for c in known.features if c in known.rows]
    before, now = (
        known.rows[[*columns, drift.SCORE]],
        inputs.assign(**{drift.SCORE: found[drift.SCORE].to_numpy(float)}),
    )
    schema, table = (
        drift.schema(before, now),
        drift.compare(before, now, before.columns, config.monitor, config.seed),
    )
    moved = (
        table.data.loc[table.data["word"].isin(JUDGED), "column"].tolist()
        if len(table.data)
        else []
    )
    priced = (
        estimate.costs(known.rows, now, moved, config)
        if config.task == "binary" and len(found)
        else {}
    )
    table = Table(
        table.title,
        table.sentence,
        table.data.assign(cost=[priced.get(c, math.nan) for c in table.data["column"]]),
        notes=table.notes,
        shown=table.shown,
    )
    expected = (
        estimate.estimated(
            found[drift.SCORE], days(found["moment"], config), known.calibrated, config, config.seed
        )
        if len(found)
        else Interval(None)
    )
    verdicts = Verdicts.of(
        [schema, alerts.inputs(table, config), alerts.predictions(table, config)]
    )
    sketches = {c: estimate.sketch(before[c], now[c]) for c in before if c in now and len(now)}
    counted = found["version"].value_counts().to_dict()
    sums = {
        "rows": len(found),
        "flagged": share(found["decision"]),
        "mean_score": share(found["score"]),
    }
    return cast(
        dict[str, Any],
        plain(
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


def share(values: pd.Series) -> float | None:
    """A mean, None where there is nothing to take it of."""
    return float(values.mean()) if values.notna().any() else None


def settle(
    project: configs.Project,
    known: Reference,
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
            drift.SCORE: found[drift.SCORE],
        }
    )
    table = measured(rows, config, known.promise, config.seed)
    far = below(table, looked["estimated"], config)
    verdicts = Verdicts.of(
        [
            *looked["verdicts"],
            alerts.performance(table, config),
            gap(far, gaps_before, table, looked["estimated"], config),
        ]
    )
    labelled = found[found["label"].notna()]
    return cast(
        dict[str, Any],
        plain(
            {
                "labelled": len(labelled),
                "realised": table,
                **spent(labelled, config),
                "gap": far,
                "verdicts": verdicts,
            }
        ),
    )


def spent(labelled: pd.DataFrame, config: configs.Config) -> dict[str, float | None]:
    """What the decisions on the labelled rows cost each, and what they saved in all against flagging every row or none."""
    y, flagged = labelled["label"].to_numpy(float), labelled["decision"].to_numpy(float)
    if not len(y) or labelled["decision"].isna().any():
        return {"cost": None, "saved": None}
    own = float(
        (config.cost.false_alarm * flagged * (1 - y) + config.cost.miss * (1 - flagged) * y).sum()
    )
    blind = min(config.cost.false_alarm * float((1 - y).sum()), config.cost.miss * float(y.sum()))
    return {"cost": own / len(y), "saved": blind - own}


def below(table: Table, expected: Interval, config: configs.Config) -> bool:
    """Whether all of the realised interval is worse than the estimate."""
    metric, found = METRICS[config.headline], table.intervals().get(config.headline, Interval(None))
    end = found.high if metric.greater_is_better else found.low
    return end is not None and expected.value is not None and metric.gain(end, expected.value) < 0


def gap(
    far: bool, before: int, table: Table, expected: Interval, config: configs.Config
) -> Verdict:
    """Whether the labels have been worse than the probabilities promise for some windows in a row: concept drift."""
    title, need = "What it learnt still holds", config.watch.persist
    limit = f"not below the estimate in {need} windows in a row"
    if expected.value is None or table.data.empty:
        return Verdict(
            "gap",
            title,
            "not applicable",
            "warns",
            "There is no estimate to hold the labels against.",
        )
    value = table.intervals()[config.headline].value
    if value is None:
        return Verdict(
            "gap",
            title,
            "cannot tell",
            "warns",
            table.sentence,
            limit=limit,
            cure="wait for labels",
        )
    said = f"{METRICS[config.headline].title} realised {number(value)}, estimated {expected}"
    if far and before + 1 >= need:
        return Verdict(
            "gap",
            title,
            "failed",
            "warns",
            f"{said}: below for {before + 1} windows in a row; what the model learnt no longer holds.",
            said,
            limit,
            "retrain on recent rows",
        )
    return Verdict("gap", title, "passed", "warns", f"{said}.", said, limit)
