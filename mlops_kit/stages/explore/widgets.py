"""The explorer: choose a column and a group, see how its values are spread.

What it shows is a figure of a table, as everywhere; the menus only choose which. Where no kernel
answers (a report, a printed notebook) the picture it began with stands in its place.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from mlops_kit.core import charts
from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.formatting import format_percent
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Figure, Table
from mlops_kit.data.columns import infer_display_kind
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.explore.columns import (
    assign_groups,
    list_most_common_values,
    make_hashable,
    select_grouping_columns,
)

_HISTOGRAM_BINS = 20
_MAX_TEXT_VALUES = 20  # values of a text that are drawn
_MAX_GROUP_LINES = 5  # groups that are told apart
_ALL_ROWS = "all rows"


def summarize_distribution(frame: pd.DataFrame, column: str, group: str | None = None) -> Table:
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
                suggest_names(name, frame.columns),
                "name a column of the table",
            )
    places = _assign_value_bins(frame[column])
    of = assign_groups(frame[group]) if group else pd.Series(_ALL_ROWS, index=frame.index)
    of = of.where(of.isin(list_most_common_values(of, _MAX_GROUP_LINES)), "other")
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
        _describe_distribution(data, column, group, int(frame[column].isna().sum())),
        data,
        {"share": f"of rows{' of the group' if group else ''}"},
    )


def _assign_value_bins(values: pd.Series) -> pd.Series:
    """Each value's bin, or itself if there are few, as an ordered category of labels."""
    values = make_hashable(values)
    if infer_display_kind(values) in {"number", "moment"} and values.nunique() > _MAX_TEXT_VALUES:
        numbers = (
            values.astype("float64").replace([np.inf, -np.inf], np.nan)
            if infer_display_kind(values) == "number"
            else values
        )
        cut = pd.cut(numbers, _HISTOGRAM_BINS)
        labels = [
            f"{i.left:%Y-%m-%d %H:%M}"
            if infer_display_kind(values) == "moment"
            else f"{i.left:,.4g} to {i.right:,.4g}"
            for i in cut.cat.categories
        ]
        distinct = [
            label if labels.count(label) == 1 else f"{label} ({n})"
            for n, label in enumerate(labels)
        ]
        return cut.cat.rename_categories(distinct)
    words = values.astype("object").map(str, na_action="ignore")
    if infer_display_kind(values) == "number":
        order = [str(v) for v in sorted(values.dropna().unique())]
    else:
        order = list_most_common_values(words, _MAX_TEXT_VALUES)
        words = words.where(words.isin(order) | words.isna(), "other")
        order += [] if "other" in order else ["other"]
    return pd.Series(pd.Categorical(words, order, ordered=True), index=values.index)


def _describe_distribution(data: pd.DataFrame, column: str, group: str | None, lacking: int) -> str:
    """The take-away of a distribution: the commonest place, or where the groups differ most."""
    if data.empty:
        return f"{column} has no values."
    tail = f" {lacking:,} rows have no value." if lacking else ""
    if group is None or data["group"].nunique() < 2:
        top = data.iloc[int(data["share"].to_numpy().argmax())]
        return f"{column} is most often {top['value']}: {format_percent(float(top['share']))} of the rows that have a value.{tail}"
    wide = data.pivot(index="value", columns="group", values="share")
    place = int((wide.max(axis=1) - wide.min(axis=1)).to_numpy().argmax())
    shares = wide.iloc[place].sort_values(kind="stable")
    return f"The groups of {group} differ most at {column} = {wide.index[place]}: {format_percent(float(shares.iloc[-1]))} of {shares.index[-1]}, {format_percent(float(shares.iloc[0]))} of {shares.index[0]}.{tail}"


def plot_distribution(frame: pd.DataFrame, column: str, group: str | None = None) -> Figure:
    """The distribution drawn: bars of all rows, a line for each group."""
    table = summarize_distribution(frame, column, group)
    if group is None:
        return charts.plot_bars(table, x="value", y="share", x_title=column)
    return charts.plot_line(table, x="value", y="share", colour="group", x_title=column)


class DistributionExplorer:
    """Menus over ``picture``; made by ``explorer``. Shows as a widget, and as its first picture elsewhere."""

    title = "Explorer"

    def __init__(self, frame: pd.DataFrame, columns: list[str], by: list[str]) -> None:
        import ipywidgets

        self._plot_cached = cache(
            partial(plot_distribution, frame)
        )  # a choice made before is not drawn again
        self.column_menu = ipywidgets.Dropdown(
            options=columns, value=columns[0], description="Column"
        )
        self.group_menu = ipywidgets.Dropdown(
            options=[_ALL_ROWS, *by], value=_ALL_ROWS, description="By group"
        )
        self.output = ipywidgets.HTML()
        self.box = ipywidgets.VBox(
            [ipywidgets.HBox([self.column_menu, self.group_menu]), self.output]
        )
        self.initial_figure = self.update_figure()
        self.column_menu.observe(self.update_figure, "value")
        self.group_menu.observe(self.update_figure, "value")

    def update_figure(self, change: Any = None) -> Figure:
        """Draw what the menus say."""
        self.current_figure: Figure = self._plot_cached(
            self.column_menu.value,
            None
            if self.group_menu.value in {_ALL_ROWS, self.column_menu.value}
            else self.group_menu.value,
        )
        self.output.value, self.sentence = (
            self.current_figure._repr_html_(),
            self.current_figure.sentence,
        )
        return self.current_figure

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        live = self.box._repr_mimebundle_(**kwargs)
        data, metadata = live if isinstance(live, tuple) else (live or {}, {})
        return {
            **data,
            "text/html": self.initial_figure._repr_html_(),
            "text/plain": self.initial_figure.sentence,
        }, metadata


def create_explorer(frame: pd.DataFrame, config: ProjectConfig) -> DistributionExplorer:
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
    by = [*first, *(c for c in select_grouping_columns(frame, config) if c not in first)]
    return DistributionExplorer(
        frame,
        [*first, *(c for c in columns if c not in first)],
        [b for b in by if make_hashable(frame[b]).nunique() > 1],
    )
