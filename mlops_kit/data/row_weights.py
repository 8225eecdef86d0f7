"""Row weights: how much each row counts, from the column that ``weight`` names in ``mlops.yaml``.

A weight of 2 counts like two equal rows in fits, metrics and shares, and a weight of 0 not at all.
It does not add information: intervals and tests rest on the effective number of rows
(``mlops_kit.stats.weights``).
"""

from __future__ import annotations

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import np, pd
from mlops_kit.project.config.root import ProjectConfig


def get_row_weights(frame: pd.DataFrame, config: ProjectConfig) -> np.ndarray | None:
    """Return the weight of each row; None if all rows count the same.

    A row whose weight is missing, as of a request whose row the source does not have yet, or is
    not valid, counts with the mean of the others.

    Parameters
    ----------
    frame : DataFrame
        Rows, with the weight column if it is known for them.
    """
    frame = to_pandas(frame)
    if config.weight is None or config.weight not in frame:
        return None
    weights = pd.to_numeric(frame[config.weight], errors="coerce").to_numpy(dtype=float)
    is_valid = np.isfinite(weights) & (weights >= 0)
    if not weights[is_valid].any():
        return None
    return np.where(is_valid, weights, weights[is_valid].mean())


def check_row_weights(frame: pd.DataFrame, config: ProjectConfig) -> None:
    """Check the weights of labeled rows.

    Raises
    ------
    RunFailedError
        With the number of rows whose weight is missing, not a number, negative or infinite; or if
        all weights are zero.
    """
    if config.weight is None:
        return
    labeled = frame[frame[config.target].notna()]
    weights = pd.to_numeric(labeled[config.weight], errors="coerce").to_numpy(dtype=float)
    counts = {
        "have no weight": int(labeled[config.weight].isna().sum()),
        "have a weight that is not a number": int(
            (np.isnan(weights) & labeled[config.weight].notna()).sum()
        ),
        "have a negative weight": int((weights < 0).sum()),
        "have an infinite weight": int((weights == np.inf).sum()),
    }
    problems = [f"{count:,} {problem}" for problem, count in counts.items() if count]
    if not problems and not weights.any():
        problems = [f"all {len(labeled):,} have the weight 0"]
    if problems:
        raise RunFailedError(
            f"the weights in {config.weight!r} cannot be used: of {len(labeled):,} labeled rows "
            f"{', '.join(problems)}",
            "finite numbers of at least 0, not all of them 0",
            "fix the source, or remove weight from mlops.yaml",
        )
