"""The explorer: choose a column and a group, see how its values are spread.

What it shows is a figure of a table, as everywhere; the menus only choose which. Where no kernel
answers (a report, a printed notebook) the picture it began with stands in its place.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from mlops_kit import plots
from mlops_kit.config import Config
from mlops_kit.errors import KitError, nearest
from mlops_kit.explore.findings import commonest, comparable, groups, hashable, kind
from mlops_kit.late import np, pd
from mlops_kit.results import Figure, Table, percent

BINS = 20
VALUES = 20  # values of a text that are drawn
LINES = 5  # groups that are told apart
NONE = "all rows"


def distribution(frame: pd.DataFrame, column: str, group: str | None = None) -> Table:
    """How a column's values are spread: the share of rows in each bin or value, by group if one is named.

    A number is cut into bins of equal width; missing values are left out and counted in the sentence.

    Raises
    ------
    KitError
        If the table has no such column.
    """
    for name in [column, *([group] if group else [])]:
        if name not in frame.columns:
            raise KitError(
                f"the table has no column {name!r} to explore",
                nearest(name, frame.columns),
                "name a column of the table",
            )
    places = placed(frame[column])
    of = groups(frame[group]) if group else pd.Series(NONE, index=frame.index)
    of = of.where(of.isin(commonest(of, LINES)), "other")
    counts = pd.crosstab(places, of) if places.notna().any() else pd.DataFrame()
    order = [p for p in places.cat.categories if p in counts.index]
    rows = [
        (p, g, int(counts.loc[p, g]), float(counts.loc[p, g] / counts[g].sum()))
        for g in counts.columns
        for p in order
    ]
    data = pd.DataFrame(rows, columns=["value", "group", "rows", "share"])
    title = f"How is {column} spread" + (f" by {group}?" if group else "?")
    return Table(
        title,
        told(data, column, group, int(frame[column].isna().sum())),
        data,
        {"share": f"of rows{' of the group' if group else ''}"},
    )


def placed(values: pd.Series) -> pd.Series:
    """Each value's bin, or itself if there are few, as an ordered category of labels."""
    values = hashable(values)
    if kind(values) in {"number", "moment"} and values.nunique() > VALUES:
        numbers = (
            values.astype("float64").replace([np.inf, -np.inf], np.nan)
            if kind(values) == "number"
            else values
        )
        cut = pd.cut(numbers, BINS)
        labels = [
            f"{i.left:%Y-%m-%d %H:%M}"
            if kind(values) == "moment"
            else f"{i.left:,.4g} to {i.right:,.4g}"
            for i in cut.cat.categories
        ]
        distinct = [
            label if labels.count(label) == 1 else f"{label} ({n})"
            for n, label in enumerate(labels)
        ]
        return cut.cat.rename_categories(distinct)
    words = values.astype("object").map(str, na_action="ignore")
    if kind(values) == "number":
        order = [str(v) for v in sorted(values.dropna().unique())]
    else:
        order = commonest(words, VALUES)
        words = words.where(words.isin(order) | words.isna(), "other")
        order += [] if "other" in order else ["other"]
    return pd.Series(pd.Categorical(words, order, ordered=True), index=values.index)


def told(data: pd.DataFrame, column: str, group: str | None, lacking: int) -> str:
    """The take-away of a distribution: the commonest place, or where the groups differ most."""
    if data.empty:
        return f"{column} has no values."
    tail = f" {lacking:,} rows have no value." if lacking else ""
    if group is None or data["group"].nunique() < 2:
        top = data.iloc[int(data["share"].to_numpy().argmax())]
        return f"{column} is most often {top['value']}: {percent(float(top['share']))} of the rows that have a value.{tail}"
    wide = data.pivot(index="value", columns="group", values="share")
    place = int((wide.max(axis=1) - wide.min(axis=1)).to_numpy().argmax())
    shares = wide.iloc[place].sort_values(kind="stable")
    return f"The groups of {group} differ most at {column} = {wide.index[place]}: {percent(float(shares.iloc[-1]))} of {shares.index[-1]}, {percent(float(shares.iloc[0]))} of {shares.index[0]}.{tail}"


def picture(frame: pd.DataFrame, column: str, group: str | None = None) -> Figure:
    """The distribution drawn: bars of all rows, a line for each group."""
    table = distribution(frame, column, group)
    if group is None:
        return plots.bars(table, x="value", y="share", x_title=column)
    return plots.line(table, x="value", y="share", colour="group", x_title=column)


class Explorer:
    """Menus over ``picture``; made by ``explorer``. Shows as a widget, and as its first picture elsewhere."""

    title = "Explorer"

    def __init__(self, frame: pd.DataFrame, columns: list[str], by: list[str]) -> None:
        import ipywidgets

        self._picture = cache(partial(picture, frame))  # a choice made before is not drawn again
        self.column = ipywidgets.Dropdown(options=columns, value=columns[0], description="Column")
        self.group = ipywidgets.Dropdown(options=[NONE, *by], value=NONE, description="By group")
        self.output = ipywidgets.HTML()
        self.box = ipywidgets.VBox([ipywidgets.HBox([self.column, self.group]), self.output])
        self.still = self.draw()
        self.column.observe(self.draw, "value")
        self.group.observe(self.draw, "value")

    def draw(self, change: Any = None) -> Figure:
        """Draw what the menus say."""
        self.shown: Figure = self._picture(
            self.column.value,
            None if self.group.value in {NONE, self.column.value} else self.group.value,
        )
        self.output.value, self.sentence = self.shown._repr_html_(), self.shown.sentence
        return self.shown

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        live = self.box._repr_mimebundle_(**kwargs)
        data, metadata = live if isinstance(live, tuple) else (live or {}, {})
        return {
            **data,
            "text/html": self.still._repr_html_(),
            "text/plain": self.still.sentence,
        }, metadata


def explorer(frame: pd.DataFrame, config: Config) -> Explorer:
    """Menus of a column and a group over the picture of how the column's values are spread.

    Parameters
    ----------
    frame : DataFrame
        Any table of the project.
    config : Config
        Its target stands first; ids are left out.

    Raises
    ------
    KitError
        If there is no column but ids.
    """
    if not (columns := [str(c) for c in frame.columns if c not in {*config.id, "row_id"}]):
        raise KitError(
            f"a table of {frame.shape[1]} columns has none to explore",
            "a column that is no id",
            "look at 'id' in mlops.yaml",
        )
    first = [config.target] if config.target in columns else []
    by = [*first, *(c for c in comparable(frame, config) if c not in first)]
    return Explorer(
        frame,
        [*first, *(c for c in columns if c not in first)],
        [b for b in by if hashable(frame[b]).nunique() > 1],
    )
