"""Schema check: compare the current columns with those that the model was evaluated on."""

from __future__ import annotations

from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Verdict
from mlops_kit.data.column_kinds import StatisticalKind, infer_statistical_kind

_CHECK = "schema"
_TITLE = "Columns match those of the evaluation"
_NUMERIC_KINDS = {StatisticalKind.CODE, StatisticalKind.BOOLEAN}


def check_schema(reference: pd.DataFrame, current: pd.DataFrame) -> Verdict:
    """Check that the current rows have the reference's columns, each with its type.

    Returns
    -------
    Verdict
        Blocks if a column is missing or has changed its type. The diagnostics list the columns
        that are ``missing``, ``added`` and ``changed``.
    """
    reference = to_pandas(reference)
    current = to_pandas(current)
    if current.empty:
        return Verdict(
            _CHECK,
            _TITLE,
            CheckOutcome.NOT_APPLICABLE,
            CheckSeverity.BLOCKS,
            "There are no scored rows whose columns could differ.",
        )
    missing = [column for column in reference.columns if column not in current.columns]
    added = [column for column in current.columns if column not in reference.columns]
    changed = []
    for column in reference.columns:
        if column in missing:
            continue
        before = _get_comparable_kind(reference[column])
        now = _get_comparable_kind(current[column])
        if before != now and StatisticalKind.EMPTY not in (before, now):
            changed.append(f"{column} ({before} → {now})")
    named = {"missing": missing, "type changed": changed, "added": added}
    parts = [f"{label}: {', '.join(map(str, names))}" for label, names in named.items() if names]
    is_broken = bool(missing or changed)
    if is_broken:
        sentence = f"The columns changed; {'; '.join(parts)}."
    else:
        sentence = f"All {len(reference.columns)} columns are present with their types."
        if added:
            sentence += f" {len(added)} were added; the model does not use them."
    return Verdict(
        _CHECK,
        _TITLE,
        CheckOutcome.FAILED if is_broken else CheckOutcome.PASSED,
        CheckSeverity.BLOCKS,
        sentence,
        observed="; ".join(parts),
        limit="none missing, no type changed",
        hint="find out what changed upstream; do not retrain on such rows" if is_broken else "",
        diagnostics={"missing": missing, "added": added, "changed": changed},
    )


def _get_comparable_kind(values: pd.Series) -> StatisticalKind:
    """Return a column's kind; codes and booleans count as numbers, which may replace them."""
    kind = infer_statistical_kind(values)
    if kind in _NUMERIC_KINDS:
        return StatisticalKind.NUMBER
    return kind
