"""Findings about a table: pure functions from a frame to a table with its sentence.

Nothing here draws, and nothing changes the frame. Intervals take rows one by one; where rows of one
day go together the honest interval is wider, and each table says so.

To add a sign that something is wrong with a column: 1. a function of its facts here that returns a
sentence or None, 2. ``@SIGNS.register("name")``; ``suspicious`` and its tests know it from then on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from mlops_kit import features, sources
from mlops_kit.config import Config
from mlops_kit.errors import KitError, nearest
from mlops_kit.late import pd, stats
from mlops_kit.registry import Registry
from mlops_kit.results import Table, Verdict, number, percent

GROUPS = 12  # values of a column that are told apart; the rest are "other"
FEW = 20  # distinct values up to which a number is taken as a category
BINS = 5  # quantile bins of a number with more values than that
SHOWN = 4  # columns compared when none are named
MANY = 100  # distinct texts from which a column is called wide
ALONE = (
    "Intervals (95 %) take rows one by one; where rows of a day go together they are too narrow."
)


def kind(values: pd.Series) -> str:
    """What a column holds, in a word: number, text, yes or no, moment, other, nothing."""
    types = pd.api.types
    if values.notna().sum() == 0:
        return "nothing"
    for word, test in {
        "yes or no": types.is_bool_dtype,
        "number": types.is_numeric_dtype,
        "moment": types.is_datetime64_any_dtype,
    }.items():
        if test(values):
            return word
    return (
        "text" if types.infer_dtype(values, skipna=True) in {"string", "categorical"} else "other"
    )


def hashable(values: pd.Series) -> pd.Series:
    """The column with lists and the like as text, so that its values can be counted."""
    return values.map(str, na_action="ignore") if kind(values) == "other" else values


def role(column: str, config: Config) -> str:
    """What the project does with a column: target, id, time, left out, known later, or feature."""
    named: dict[str, Any] = {
        "target": [config.target],
        "id": [*config.id, sources.ROW],
        "time": [config.time],
        "known later": config.known_later,
        "left out": config.leave_out,
    }
    return next((word for word, columns in named.items() if column in columns), "feature")


def overview(frame: pd.DataFrame, config: Config) -> Table:
    """Every column: its role, kind, share missing, distinct values."""
    rows = [
        (
            c,
            role(c, config),
            kind(frame[c]),
            share(frame[c].isna()),
            int(hashable(frame[c]).nunique()),
        )
        for c in frame.columns
    ]
    data = pd.DataFrame(rows, columns=["column", "role", "kind", "missing", "distinct"])
    counts = ", ".join(f"{k}: {n}" for k, n in data["kind"].value_counts().sort_index().items())
    used = int((data["role"] == "feature").sum())
    sentence = f"{len(frame):,} rows and {len(data)} columns ({counts or 'none'}); {used} of them may become features."
    return Table("What is in the table?", sentence, data, {"missing": "share of rows"})


def share(flags: pd.Series) -> float:
    """The share that is true; of no rows it is zero."""
    return float(flags.mean()) if len(flags) else 0.0


def missing(frame: pd.DataFrame) -> Table:
    """The columns that lack values, the emptiest first."""
    rows = [(str(c), int(frame[c].isna().sum()), share(frame[c].isna())) for c in frame.columns]
    data = pd.DataFrame(rows, columns=["column", "rows", "missing"])
    data = data[data["rows"] > 0].sort_values(
        ["missing", "column"], ascending=[False, True], ignore_index=True
    )
    if data.empty:
        return Table(
            "What is missing?",
            f"No value is missing in {frame.shape[1]} columns.",
            data,
            {"missing": "share of rows"},
        )
    worst = data.iloc[0]
    sentence = f"{len(data)} of {frame.shape[1]} columns lack values; {worst['column']} lacks most, {percent(worst['missing'])} of the rows."
    return Table("What is missing?", sentence, data, {"missing": "share of rows"})


def estimate(values: pd.Series, task: str) -> tuple[float, float, float]:
    """The mean with its 95 % interval: Wilson's for a share, Student's for a mean.

    Notes
    -----
    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927);
    Student, "The probable error of a mean", Biometrika 6 (1908). No rows give no mean, and one row,
    or rows without spread to go by, no interval of a mean.
    """
    known = values.dropna().to_numpy(dtype="float64")
    if len(known) == 0:
        return float("nan"), float("nan"), float("nan")
    mean = float(known.mean())
    if task == "binary":
        held = stats.binomtest(int(known.sum()), len(known)).proportion_ci(method="wilson")
        return mean, float(held.low), float(held.high)
    if len(known) < 2:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / len(known) ** 0.5)
    return mean, mean - half, mean + half


def measure(config: Config) -> str:
    """What the mean of the target is: a share of rows, or a mean."""
    return "share" if config.task == "binary" else "mean"


def averaged(target: pd.Series, keys: pd.Series, config: Config) -> pd.DataFrame:
    """Rows and the mean of the target with its interval, for each key in order."""
    known = target.notna() & keys.notna()
    rows = [
        (k, len(part), *estimate(part, config.task))
        for k, part in target[known].groupby(keys[known], sort=True, observed=True)
    ]
    return pd.DataFrame(rows, columns=[keys.name, "rows", measure(config), "low", "high"])


def target_over_time(frame: pd.DataFrame, config: Config) -> Table | Verdict:
    """The target's mean by day (up to four months), week (up to three years) or month.

    Periods are those of the project's time zone; rows without a label or a moment are left out.
    """
    title = f"How does {config.target} move with time?"
    if config.time is None:
        return Verdict(
            "target_over_time",
            title,
            "not applicable",
            "warns",
            "The table has no time column, so nothing moves with time.",
        )
    target = features.encode(frame, config)[0][config.target]
    moments = (
        pd.to_datetime(frame[config.time], utc=True, errors="coerce")
        .dt.tz_convert(config.timezone)
        .dt.tz_localize(None)
    )
    labelled = moments[target.notna()].dropna()
    if labelled.empty:
        return Verdict(
            "target_over_time",
            title,
            "cannot tell",
            "warns",
            f"No row has both a moment and a known {config.target}.",
        )
    days = (labelled.max() - labelled.min()).days
    word, code = (
        ("day", "D") if days <= 120 else ("week", "W") if days <= 3 * 366 else ("month", "M")
    )
    data = averaged(target, moments.dt.to_period(code).dt.start_time.rename(word), config)
    what = measure(config)
    values = data[what].to_numpy()
    low, high = data.iloc[int(values.argmin())], data.iloc[int(values.argmax())]
    span = f"from {number(float(low[what]))} ({low[word]:%Y-%m-%d}) to {number(float(high[what]))} ({high[word]:%Y-%m-%d})"
    sentence = f"The {what} of {config.target} by {word} runs {span}, over {len(data)} {word}s; {number(float(target.mean()))} overall."
    return Table(
        title,
        sentence,
        data,
        unit(config),
        (ALONE, "The first and the last period may be cut short."),
    )


def unit(config: Config) -> dict[str, str]:
    """The unit of the target's mean."""
    return {
        measure(config): f"{config.target} among rows" if config.task == "binary" else config.target
    }


def groups(values: pd.Series) -> pd.Series:
    """A column as groups: its commonest values, quantile bins of a number, "missing" as its own."""
    values = hashable(values)
    if kind(values) in {"number", "moment"} and values.nunique() > FEW:
        numbers = values.astype("float64") if kind(values) == "number" else values
        # -inf and inf have no quantile; they stand with the missing ones, not in a bin.
        finite = (
            numbers.mask(numbers.isin([float("inf"), float("-inf")]))
            if kind(values) == "number"
            else numbers
        )
        cut = pd.qcut(finite, BINS, duplicates="drop", precision=3)
        spans = {i: f"{i.left} to {i.right}" for i in cut.cat.categories}
        return cut.astype("object").map(spans).fillna("missing")
    common = commonest(values, FEW if kind(values) == "number" else GROUPS)
    words = values.astype("object").map(str, na_action="ignore")
    return words.where(values.isin(common) | values.isna(), "other").where(
        values.notna(), "missing"
    )


def commonest(values: pd.Series, count: int) -> list[Any]:
    """The values that occur most; of two alike the first by name."""
    return list(
        values.value_counts()
        .sort_index(key=lambda i: i.map(str))
        .sort_values(ascending=False, kind="stable")
        .index[:count]
    )


def comparable(frame: pd.DataFrame, config: Config) -> list[str]:
    """The features that part the rows into groups: categories first, then numbers; a few of them."""
    names = features.names(config, frame)
    counts = {c: hashable(frame[c]).nunique() for c in names}
    few = [c for c in names if 2 <= counts[c] <= FEW]
    return (few + [c for c in names if counts[c] > FEW and kind(frame[c]) == "number"])[:SHOWN]


def target_by_group(
    frame: pd.DataFrame, config: Config, columns: Sequence[str] | None = None
) -> Table:
    """The target's mean in the groups of some columns, each column's highest first.

    Parameters
    ----------
    columns : names, optional
        By default a few features with few values, then numbers cut into five quantile bins.

    Raises
    ------
    KitError
        If the table has no such column.
    """
    chosen = comparable(frame, config) if columns is None else list(columns)
    if absent := [c for c in chosen if c not in frame.columns]:
        raise KitError(
            f"the table has no column {absent[0]!r} to compare groups by",
            nearest(absent[0], frame.columns),
            "name columns of the table",
        )
    what, title = measure(config), f"Where is {config.target} high, where low?"
    target = features.encode(frame, config)[0][config.target]
    parts = [
        averaged(target, groups(frame[c]).rename("group"), config)
        .sort_values([what, "group"], ascending=[False, True])
        .assign(column=c)
        for c in chosen
    ]
    names = ["group", "column", "value", "rows", what, "low", "high"]
    if not any(len(p) for p in parts):
        return Table(
            title,
            "There are no groups to compare: no feature has few values, or no row has a label.",
            pd.DataFrame(columns=names),
            unit(config),
        )
    data = pd.concat([p for p in parts if len(p)], ignore_index=True).rename(
        columns={"group": "value"}
    )
    data = data.assign(group=data["column"] + " = " + data["value"])[names]
    mean = float(target.mean())
    clear = int(((data["low"] > mean) | (data["high"] < mean)).sum())
    values = data[what].to_numpy()
    top, low = data.iloc[int(values.argmax())], data.iloc[int(values.argmin())]
    ends = f"{top['group']} has the highest {what} of {config.target}, {number(float(top[what]))}; {low['group']} the lowest, {number(float(low[what]))}"
    return Table(
        title,
        f"{ends}. {clear} of {len(data)} groups lie clear of the {number(mean)} overall.",
        data,
        unit(config),
        (ALONE,),
    )


class Facts(NamedTuple):
    """What the signs look at: a column, its kind and role, rows, known values, distinct values."""

    values: Any
    kind: str
    role: str
    rows: int
    known: int
    distinct: int


SIGNS: Registry[Callable[[Facts], str | None]] = Registry("sign")


@SIGNS.register("all missing")
def all_missing(facts: Facts) -> str | None:
    """No value at all."""
    return f"none of {facts.rows:,} rows has a value" if facts.known == 0 else None


@SIGNS.register("constant")
def constant(facts: Facts) -> str | None:
    """One value wherever there is one."""
    return (
        f"the only value is {facts.values.dropna().iloc[0]}"
        if facts.distinct == 1 and facts.rows > 1
        else None
    )


@SIGNS.register("mostly missing")
def mostly_missing(facts: Facts) -> str | None:
    """Over half of the rows lack a value."""
    lacking = 1 - facts.known / facts.rows if facts.rows else 0.0
    return f"{percent(lacking)} of the rows lack a value" if 0.5 < lacking < 1 else None


@SIGNS.register("nearly unique")
def nearly_unique(facts: Facts) -> str | None:
    """Text that names the row rather than describes it."""
    named = (
        facts.role == "feature"
        and facts.kind in {"text", "other"}
        and facts.known >= FEW
        and facts.distinct > 0.9 * facts.known
    )
    return f"{facts.distinct:,} different values in {facts.known:,} rows" if named else None


@SIGNS.register("own number for each row")
def counter(facts: Facts) -> str | None:
    """Whole numbers of which no two rows share one: an id, rather than a measurement."""
    own = (
        facts.role == "feature"
        and facts.kind == "number"
        and facts.known >= FEW
        and facts.distinct == facts.known
    )
    whole = own and bool((facts.values.dropna() % 1 == 0).all())
    return (
        f"each of {facts.known:,} rows has a whole number of its own: an id belongs under 'id' or 'leave_out'"
        if whole
        else None
    )


@SIGNS.register("many values")
def many_values(facts: Facts) -> str | None:
    """Text with more values than a model can learn one by one."""
    wide = (
        facts.role == "feature"
        and facts.kind == "text"
        and MANY < facts.distinct <= 0.9 * facts.known
    )
    return f"{facts.distinct:,} different values" if wide else None


@SIGNS.register("infinite")
def infinite(facts: Facts) -> str | None:
    """Numbers that are not finite."""
    count = (
        int(facts.values.isin([float("inf"), float("-inf")]).sum()) if facts.kind == "number" else 0
    )
    return f"{count:,} values are infinite" if count else None


@SIGNS.register("number as text")
def number_as_text(facts: Facts) -> str | None:
    """Text whose every value reads as a number."""
    if facts.kind != "text" or facts.role not in {"feature", "target"}:
        return None
    unique = pd.Series(facts.values.dropna().astype("object").unique())
    return (
        "every value reads as a number"
        if pd.to_numeric(unique, errors="coerce").notna().all()
        else None
    )


@SIGNS.register("one sort of value")
def mixed(facts: Facts) -> str | None:
    """Values of several types in one column."""
    if facts.kind != "other":
        return None
    types = sorted({type(v).__name__ for v in facts.values.dropna()})
    return f"values of {len(types)} types: {', '.join(types)}" if len(types) > 1 else None


def twins(frame: pd.DataFrame) -> Iterable[tuple[str, str]]:
    """Pairs of columns with the same values in every row; constants are left out."""
    seen: dict[str, str] = {}
    for column in frame.columns:
        values = hashable(frame[column])
        if values.nunique() < 2:
            continue
        # 1 and 1.0, True and 1 count as the same value: a copy often changes its type.
        comparable_values = (
            values.astype("float64")
            if kind(values) in {"number", "yes or no"}
            else values.astype("string")
        )
        mark = hashlib.sha256(
            pd.util.hash_pandas_object(comparable_values, index=False).to_numpy().tobytes()
        ).hexdigest()
        if mark in seen:
            yield str(column), seen[mark]
        seen.setdefault(mark, str(column))


def repeated(frame: pd.DataFrame, config: Config) -> list[tuple[str, str, str]]:
    """Ids that occur twice and, where rows have no id of their own, whole rows that do."""
    held = [c for c in config.id if c in frame.columns]
    columns, name = (
        (held, "id twice")
        if held
        else ([c for c in frame.columns if c != sources.ROW], "row twice")
    )
    count = (
        int(
            pd.DataFrame({c: hashable(frame[c]) for c in columns}, index=frame.index)
            .duplicated()
            .sum()
        )
        if columns
        else 0
    )
    return (
        [(", ".join(held) or "all columns", name, f"{count:,} rows repeat an earlier one")]
        if count
        else []
    )


def suspicious(frame: pd.DataFrame, config: Config) -> Table:
    """What looks wrong: signs of single columns, twin columns, ids and rows that occur twice."""
    found: list[tuple[str, str, str]] = []
    for column in frame.columns:
        values = hashable(frame[column])
        facts = Facts(
            frame[column],
            kind(frame[column]),
            role(column, config),
            len(frame),
            int(values.notna().sum()),
            int(values.nunique()),
        )
        found += [
            (str(column), name, said) for name, sign in SIGNS.items() if (said := sign(facts))
        ]
    found += [(column, "copy", f"the same values as {first}") for column, first in twins(frame)]
    found += repeated(frame, config)
    data = pd.DataFrame(found, columns=["column", "sign", "what is seen"])
    if data.empty:
        return Table(
            "What looks wrong?",
            f"Nothing looks wrong in {frame.shape[1]} columns and {len(frame):,} rows.",
            data,
        )
    first = data.iloc[0]
    where = data["column"].nunique()
    sentence = f"{len(data)} {'sign' if len(data) == 1 else 'signs'} in {where} {'place' if where == 1 else 'places'}; the first: {first['column']}, {first['sign']} ({first['what is seen']})."
    return Table("What looks wrong?", sentence, data)
