"""The seven notebooks run for real, on a small sample of both tables."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_kit.config import resources

ROOT = Path(__file__).parent.parent


def mlops(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("MLOPS_")}
    return subprocess.run([sys.executable, "-m", "mlops_kit.cli", *words], cwd=cwd, env=env, capture_output=True, text=True, timeout=500, check=False)


def latest(home: Path) -> dict[str, object]:
    run = sorted((home / "reports").glob("*/manifest.json"))[-1]
    return json.loads(run.read_text())


@pytest.fixture(scope="module")
def diabetes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("diabetes")
    for name in ("mlops.yaml", "contract.yaml"):
        if (ROOT / "examples" / "diabetes" / name).exists():
            shutil.copy(ROOT / "examples" / "diabetes" / name, home)
    done = mlops("run", "-p", "train.trials=4", cwd=home)
    assert done.returncode == 0, done.stdout + done.stderr
    return home


def test_the_diabetes_chain_ends_with_a_verdict(diabetes: Path) -> None:
    made = latest(diabetes)
    assert {n: e["status"] for n, e in made["stages"].items()} == dict.fromkeys(made["stages"], "succeeded")
    assert "R²" in made["stages"]["review"]["sentence"]
    page = (diabetes / "reports" / made["run"] / "index.html").read_text()
    assert made["stages"]["review"]["sentence"][:40] in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")


def test_nothing_to_do_starts_nothing(diabetes: Path) -> None:
    before = sorted(p.name for p in (diabetes / "reports").iterdir())
    done = mlops("run", "-p", "train.trials=4", cwd=diabetes)
    assert done.returncode == 0, done.stderr
    assert "Nothing to do" in done.stdout
    assert sorted(p.name for p in (diabetes / "reports").iterdir()) == before


def test_the_same_seed_gives_the_same_artifacts_and_a_draft_too(diabetes: Path) -> None:
    def content(run: Path) -> dict[str, str]:
        found = [json.loads(p.read_text()) for p in sorted((run / "stages").glob("*.json"))]
        return {n: a["content"] for r in found for n, a in r["artifacts"].items() if a["content"]}

    first = diabetes / "reports" / latest(diabetes)["run"]
    again = mlops("run", "--force", "-p", "train.trials=4", cwd=diabetes)
    assert again.returncode == 0, again.stdout + again.stderr
    second = diabetes / "reports" / latest(diabetes)["run"]
    assert first != second
    assert content(first) == content(second)
    env = {**os.environ, "MLOPS_PROJECT": str(diabetes)}
    for stage, extra in (("02_prepare", []), ("03_train", ["-p", "trials", "4"])):
        book = resources("notebooks") / f"{stage}.ipynb"
        subprocess.run([sys.executable, "-m", "papermill", "-k", "python3", "--no-progress-bar", str(book), str(diabetes / "out.ipynb"), *extra], env=env, check=True, timeout=300, capture_output=True)
    draft, recorded = content(diabetes / "reports" / "draft"), content(second)
    assert draft == {n: recorded[n] for n in draft}
    assert {"features", "model"} <= set(draft)


def test_the_champion_scores_a_file(diabetes: Path) -> None:
    from mlops_kit.datasets import diabetes as table

    table(10).drop(columns="progression").to_csv(diabetes / "new.csv", index=False)
    done = mlops("predict", "new.csv", "--out", "scored.csv", cwd=diabetes)
    assert done.returncode == 0, done.stderr
    assert len((diabetes / "scored.csv").read_text().splitlines()) == 11


def test_a_sample_of_the_flights_runs_through_and_is_not_promoted(tmp_path: Path) -> None:
    for name in ("mlops.yaml", "contract.yaml"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "features", tmp_path / "features", ignore=shutil.ignore_patterns("__pycache__"))
    done = mlops("run", "--sample", "5000", "-p", "train.trials=4", cwd=tmp_path)
    assert done.returncode in {0, 1}, done.stderr  # so few rows may fail a check; nothing may crash
    made = latest(tmp_path)
    assert made["sample"] == 5000
    for stage in ("explore", "prepare", "train"):
        assert made["stages"][stage]["status"] == "succeeded", made["stages"][stage]
    promotion = tmp_path / "reports" / made["run"] / "artifacts" / "promotion.json"
    if promotion.exists():
        assert json.loads(promotion.read_text())["promoted"] is False


def test_an_unknown_stage_exits_with_two_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "mlops.yaml").write_text("name: a\nsource: dataset:diabetes\ntarget: progression\ntask: regression\n")
    done = mlops("run", "--only", "trian", cwd=tmp_path)
    assert done.returncode == 2
    assert "'train'" in done.stderr and "Traceback" not in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["mlops.yaml"]
