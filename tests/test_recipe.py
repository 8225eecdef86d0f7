"""Recipes are read as they were written, also those of earlier versions."""

from __future__ import annotations

from mlops_kit.registry.recipe import Recipe

RECIPE = Recipe(
    family="linear",
    params={"alpha": 1.0},
    threshold=0.4,
    features=["x", "z"],
    metric="log_loss",
    less_is_better=True,
    score=0.3,
    rows=200,
    folds=3,
    trials=7,
    seconds=1.5,
    stopped_by_clock=False,
    baselines={"constant": 0.6},
)


def test_recipe_survives_its_dictionary() -> None:
    stored = RECIPE.to_dict()
    assert stored["schema_version"] == 1
    assert Recipe.from_dict(stored) == RECIPE


def test_recipe_without_schema_version_is_read() -> None:
    stored = RECIPE.to_dict()
    del stored["schema_version"]
    assert Recipe.from_dict(stored) == RECIPE
