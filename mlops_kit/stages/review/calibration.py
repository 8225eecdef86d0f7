"""Calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Table
from mlops_kit.stats import metrics
from mlops_kit.stats.proportions import compute_wilson_interval

_NORMAL_QUANTILE_97_5 = 1.959963984540054  # 97.5 % point of the normal distribution


def compute_calibration_curve(y: Any, score: Any, bins: int = 10) -> Table:
    """What was said against what was seen, in bins of equally many rows.

    Labels of 0 and 1 get Wilson's intervals; other targets the normal interval of a mean.

    Returns
    -------
    Table
        A row a bin: said (mean score), seen (mean label), low, high, rows, share (of all rows).
    """
    y, score, _ = metrics.to_finite_arrays(y, score)
    title, columns = "Does it mean what it says?", ["said", "seen", "low", "high", "rows", "share"]
    if len(y) == 0:
        return Table(
            title, "There is no labelled row to compare with.", pd.DataFrame(columns=columns)
        )
    held = np.searchsorted(np.quantile(score, np.linspace(0, 1, bins + 1))[1:-1], score)
    shares, rows = bool(np.isin(y, (0, 1)).all()), []
    for b in np.unique(held):
        inside = y[held == b]
        count, seen = len(inside), float(inside.mean())
        half = (
            _NORMAL_QUANTILE_97_5 * float(inside.std(ddof=1)) / math.sqrt(count)
            if count > 1
            else math.nan
        )
        low, high = (
            compute_wilson_interval(int(inside.sum()), count)
            if shares
            else (seen - half, seen + half)
        )
        rows.append((float(score[held == b].mean()), seen, low, high, count, count / len(y)))
    data = pd.DataFrame(rows, columns=columns)
    off = data.assign(gap=data["seen"] - data["said"])
    worst = off.iloc[int(off["gap"].abs().to_numpy().argmax())]
    told = format_percent if shares else format_number
    outside = int(((data["said"] < data["low"]) | (data["said"] > data["high"])).sum())
    sentence = f"Where it says {told(float(worst['said']))}, {told(float(worst['seen']))} is seen: the largest gap; in {outside} of {len(data)} bins what it says lies outside the interval."
    return Table(title, sentence, data, {"share": "of all rows"})


def compare_calibration_curves(y: Any, scores: Mapping[str, Any], bins: int = 10) -> Table:
    """The calibration of several models on the same rows, one below the other.

    Parameters
    ----------
    scores : mapping of str to array-like
        By the name of the model; one without scores is left out.

    Returns
    -------
    Table
        A row a model and bin: model, said, seen, low, high, share (of all rows).
    """
    found = {
        name: compute_calibration_curve(y, s, bins) for name, s in scores.items() if s is not None
    }
    sentence = " ".join(
        f"{name[:1].upper()}{name[1:]}: {t.sentence[0].lower()}{t.sentence[1:]}"
        for name, t in found.items()
    )
    data = pd.concat(
        [t.to_frame().assign(model=name) for name, t in found.items()], ignore_index=True
    )
    return Table(
        "Does it mean what it says?",
        sentence,
        data[["model", "said", "seen", "low", "high", "share"]],
        {"share": "of all rows"},
    )
