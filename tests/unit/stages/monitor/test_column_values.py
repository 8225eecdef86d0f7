"""One meaning of a column's values: every storage of the same values is compared the same way."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from mlops_kit.core.errors import RunFailedError
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor import drift, estimate, realized
from mlops_kit.stages.monitor.column_values import to_categories, to_numbers

LIMITS = ProjectConfig(name="t", source="x.csv", target="y", task="binary").monitor
NUMBERS = [0.5, 1.5, None, 2.5]
NAMES = ["a", "b", None, "a"]


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(NUMBERS),
        pd.Series(NUMBERS, dtype="Float64"),
        pd.Series(NUMBERS, dtype="float64[pyarrow]"),
        pd.Series(NUMBERS, dtype="category"),
        pd.Series([Decimal("0.5"), Decimal("1.5"), None, Decimal("2.5")]),
        pd.Series(["0.5", "1.5", "n/a", "2.5"]),
    ],
)
def test_number_is_the_same_in_every_storage(values: pd.Series) -> None:
    np.testing.assert_array_equal(to_numbers(values), [0.5, 1.5, np.nan, 2.5])


@pytest.mark.parametrize("dtype", ["object", "category", "string", "string[pyarrow]"])
def test_category_is_the_same_in_every_storage(dtype: str) -> None:
    codes, names = to_categories(pd.Series(NAMES, dtype=dtype))
    assert codes.tolist() == [0, 1, -1, 0]
    assert names == ["a", "b"]


def test_whole_numbers_booleans_and_their_texts_are_one_category() -> None:
    codes, names = to_categories(pd.Series([1, 1.0, True, "1", 0.5, False], dtype=object))
    assert codes.tolist() == [0, 0, 0, 0, 1, 2]
    assert names == ["1", "0.5", "0"]


def test_values_that_cannot_be_hashed_are_categories() -> None:
    codes, names = to_categories(pd.Series([[1], [2], None, [1]]))
    assert codes.tolist() == [0, 1, -1, 0]
    assert names == ["[1]", "[2]"]


def test_pandas_category_has_distribution_and_cost() -> None:
    rng = np.random.default_rng(0)
    names = rng.choice(["a", "b"], 600)
    rows = pd.DataFrame({"x": pd.Categorical(names), "y": rng.integers(0, 2, 600).astype(float)})
    rows["score"] = rng.random(600)
    current = pd.DataFrame({"x": pd.Categorical(["a"] * 300 + ["c"] * 10 + [None] * 5)})
    shares = estimate.compare_distributions(rows["x"], current["x"])
    assert shares["bins"] == ["a", "b", "others", "missing"]
    assert shares["current"] == pytest.approx([300 / 315, 0, 10 / 315, 5 / 315], abs=1e-4)
    config = ProjectConfig(name="t", source="x.csv", target="y", task="binary")
    assert np.isfinite(estimate.estimate_drift_costs(rows, current, ["x"], config)["x"])


def test_number_that_became_text_is_named_and_has_a_distribution() -> None:
    before = pd.DataFrame({"x": np.linspace(0, 1, 400)})
    now = before.astype(str).where(before["x"] > 0.1, "n/a")
    row = drift.measure_drift(before, now, ["x"], LIMITS).data.iloc[0]
    assert (row["status"], row["reason"]) == ("not_tested", "type_changed")
    assert row["explanation"] == "number before, category now"
    shares = estimate.compare_distributions(before["x"], now["x"])
    assert shares["current"][-1] == pytest.approx((now["x"] == "n/a").mean(), abs=1e-4)


def test_repeated_index_labels_change_nothing() -> None:
    rng = np.random.default_rng(0)
    before = pd.DataFrame({"x": rng.normal(size=400)})
    now = pd.DataFrame({"x": rng.normal(1, 1, 400)})
    plain = drift.measure_drift(before, now, ["x"], LIMITS).data
    repeated = drift.measure_drift(
        before.set_axis([0] * 400), now.set_axis([0] * 400), ["x"], LIMITS
    ).data
    pd.testing.assert_frame_equal(plain, repeated)


def make_scored_rows() -> tuple[pd.DataFrame, pd.DataFrame, ProjectConfig]:
    config = ProjectConfig(
        name="t", source="x.csv", target="y", task="binary", id=["k"], time="t", timezone="UTC"
    )
    times = pd.date_range("2024-01-01", periods=40, freq="6h")
    scores = pd.DataFrame({"k": range(40), "t": times, "score": np.linspace(0, 1, 40)})
    source = pd.DataFrame({"k": range(40), "t": times, "y": [0, 1] * 20})
    return scores, source, config


def test_repeated_labels_are_an_error_with_the_key() -> None:
    scores, source, config = make_scored_rows()
    doubled = pd.concat([source, source.tail(2)], ignore_index=True)
    with pytest.raises(RunFailedError, match=r"2 labels have the key of another row.*'k': 38"):
        realized.measure_realized_performance(scores, doubled, config, None)


def test_naive_timestamps_are_in_utc() -> None:
    scores, source, config = make_scored_rows()
    naive = realized.measure_performance_by_day(scores, source, config)
    zoned = scores.assign(t=scores["t"].dt.tz_localize("UTC"))
    aware = realized.measure_performance_by_day(zoned, source, config)
    assert len(naive.data) == 10
    pd.testing.assert_frame_equal(naive.data, aware.data)
