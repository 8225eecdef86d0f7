"""Plugins: imported when needed, known before, removed with their project, clear if broken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_kit.cli import doctor
from mlops_kit.core import dependencies
from mlops_kit.core.errors import KitError
from mlops_kit.core.import_tracer import MAIN_MODULE, import_log
from mlops_kit.project import plugins, settings
from mlops_kit.project.loader import load_project
from mlops_kit.project.plugins import PluginError
from mlops_kit.stats.metrics import METRICS, compute_metric

SETTINGS = """\
name: tiny
source: t.csv
target: y
task: regression
plugins: [my_metrics]
train: {metric: worst}
"""
PLUGIN = """\
import colorsys  # what stands for a heavy library
import mlops_kit.stages.review
from mlops_kit.stats.metrics import register_metric

@register_metric("worst", "worst error", "regression", greater_is_better=False)
def compute_worst_error(y, score, threshold, weights):
    return float(abs(y - score).max())
"""


@pytest.fixture(autouse=True)
def no_plugins_left() -> Iterator[None]:
    yield
    plugins.deactivate_plugins()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A project with a plugin in which something has been run."""
    return write_project(tmp_path / "home")


def write_project(home: Path, plugin: str = PLUGIN, settings_text: str = SETTINGS) -> Path:
    (home / ".mlops").mkdir(parents=True)
    (home / "mlops.yaml").write_text(settings_text)
    (home / "my_metrics.py").write_text(plugin)
    (home / "t.csv").write_text("x,y\n1,2\n")
    return home


def restart() -> None:
    """Forget the plugins, as a new process does."""
    plugins.deactivate_plugins()
    sys.modules.pop("my_metrics", None)


def test_metric_of_a_plugin_is_known_before_the_configuration_is_validated(home: Path) -> None:
    project = load_project(home)
    assert project.config.search_metric == "worst"
    assert compute_metric("worst", [1, 2, 3], [1, 2, 7]) == 4


def test_plugin_is_imported_only_when_its_extension_is_used(home: Path) -> None:
    load_project(home)
    restart()
    load_project(home)
    assert "my_metrics" not in sys.modules
    assert METRICS["rmse"].title == "RMSE"
    assert "my_metrics" not in sys.modules
    assert METRICS["worst"].title == "worst error"
    assert "my_metrics" in sys.modules


def test_iterating_over_a_registry_imports_its_plugins(home: Path) -> None:
    load_project(home)
    restart()
    load_project(home)
    assert "worst" in METRICS
    assert "worst" in METRICS.list_names("regression")
    assert "worst" not in METRICS.list_names("binary")
    assert "my_metrics" not in sys.modules
    assert "worst" in list(METRICS)
    assert "my_metrics" in sys.modules


def test_changed_plugin_is_imported_again(home: Path) -> None:
    load_project(home)
    restart()
    changed = PLUGIN.replace("worst error", "largest error")
    (home / "my_metrics.py").write_text(changed)
    load_project(home)
    assert METRICS["worst"].title == "largest error"


def test_plugin_that_changes_in_the_life_of_a_process_is_imported_again(home: Path) -> None:
    load_project(home)
    assert METRICS["worst"].title == "worst error"
    changed = PLUGIN.replace("worst error", "largest error of all")
    (home / "my_metrics.py").write_text(changed)
    load_project(home)
    assert METRICS["worst"].title == "largest error of all"


def test_module_that_a_plugin_imports_counts_as_part_of_it(tmp_path: Path) -> None:
    plugin = PLUGIN.replace("import colorsys  # what stands for a heavy library", "import titles")
    home = write_project(tmp_path / "home", plugin.replace('"worst error"', "titles.WORST"))
    (home / "titles.py").write_text("WORST = 'worst error'\n")
    load_project(home)
    (home / "titles.py").write_text("WORST = 'largest error'\n")
    load_project(home)
    assert METRICS["worst"].title == "largest error"


def test_another_project_removes_the_plugins_of_the_first(home: Path, tmp_path: Path) -> None:
    other_plugin = PLUGIN.replace("worst error", "other error")
    other = write_project(tmp_path / "other", other_plugin)
    load_project(home)
    assert METRICS["worst"].title == "worst error"
    load_project(other)
    assert METRICS["worst"].title == "other error"
    assert str(home) not in sys.path
    (other / "mlops.yaml").write_text("name: t\nsource: t.csv\ntarget: y\ntask: regression\n")
    load_project(other)
    assert "worst" not in METRICS


def test_use_in_a_notebook_is_a_dependency_and_no_use_is_none(home: Path) -> None:
    load_project(home)
    restart()
    load_project(home)
    import_log.edges.pop(MAIN_MODULE, None)
    dependencies.settings_read.clear()
    assert METRICS["rmse"]
    assert "my_metrics" not in import_log.edges.get(MAIN_MODULE, set())
    assert METRICS["worst"]
    assert "my_metrics" in import_log.edges[MAIN_MODULE]
    assert ("plugins", "metric") not in dependencies.settings_read
    assert list(METRICS)
    assert ("plugins", "metric") in dependencies.settings_read


def test_what_plugins_register_counts_as_a_setting(home: Path) -> None:
    config = load_project(home).config
    values = settings.list_setting_values(config)
    assert values["plugins (metric)"] == ["my_metrics: worst"]
    assert values["plugins (review check)"] == []
    names = settings.map_fields_to_settings(config)
    assert names["plugins", "metric"] == "plugins (metric)"


def test_index_is_not_written_where_nothing_has_been_run(home: Path) -> None:
    (home / ".mlops").rmdir()
    load_project(home)
    assert not (home / ".mlops").exists()


def test_copied_project_has_plugins_of_its_own(home: Path, tmp_path: Path) -> None:
    load_project(home)
    copy = Path(shutil.copytree(home, tmp_path / "copy"))
    (copy / "my_metrics.py").write_text(PLUGIN.replace('"worst"', '"largest"'))
    settings_text = SETTINGS.replace("metric: worst", "metric: largest")
    (copy / "mlops.yaml").write_text(settings_text)
    restart()
    assert load_project(copy).config.search_metric == "largest"
    (plugin,) = plugins.list_plugins()
    assert str(copy / "my_metrics.py") in plugin.stamps


@pytest.mark.parametrize("index", ["", "{}", '{"environment": 1, "plugins": 2}', "[]"])
def test_damaged_index_is_ignored(home: Path, index: str) -> None:
    (home / plugins.PLUGIN_INDEX_FILE).write_text(index)
    assert load_project(home).config.search_metric == "worst"
    assert json.loads((home / plugins.PLUGIN_INDEX_FILE).read_text())["plugins"]


BROKEN = {
    "missing module": ("", "the plugin 'my_metrics' does not exist"),
    "missing library": (
        "import no_such_library\n",
        "cannot be imported: ModuleNotFoundError: No module named 'no_such_library' "
        "({home}/my_metrics.py, line 1)",
    ),
    "syntax": ("x = (\n", "cannot be imported: SyntaxError: '(' was never closed"),
    "exception": ("\n1 / 0\n", "ZeroDivisionError: division by zero ({home}/my_metrics.py, line 2"),
    "no message": (
        "class Odd(BaseException):\n    __str__ = None\nraise Odd\n",
        "cannot be imported: my_metrics.Odd: <exception str() failed> ({home}/my_metrics.py, ",
    ),
    "invalid argument": (
        "from mlops_kit import register_check\nregister_check('few', 'Few', 'fatal')(len)\n",
        "cannot be loaded: the severity 'fatal' is unknown ({home}/my_metrics.py, line 2)",
    ),
    "unknown task": (
        PLUGIN.replace('"regression"', '"regresion"'),
        "cannot be loaded: the metric 'worst' is for the unknown task 'regresion'",
    ),
    "exit": ("raise SystemExit(3)\n", "cannot be imported: SystemExit: 3"),
    "name of ours": (
        PLUGIN.replace('"worst"', '"rmse"'),
        "cannot be loaded: the metric 'rmse' is registered twice; the first one is from mlops-kit",
    ),
    "same name twice": (
        PLUGIN + PLUGIN,
        "the metric 'worst' is registered twice; the first one is from the module 'my_metrics'",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_plugin_is_a_clear_error_and_the_doctor_still_works(name: str, home: Path) -> None:
    plugin, message = BROKEN[name]
    file = home / "my_metrics.py"
    if plugin:
        file.write_text(plugin)
    else:
        file.unlink()
    (home / "mlops.yaml").write_text(SETTINGS.replace("train: {metric: worst}", ""))
    with pytest.raises(PluginError) as error:
        load_project(home)
    assert message.format(home=home) in error.value.message
    assert error.value.expected
    assert error.value.hint
    assert error.value.exit_code == 2
    findings = {f.check_name: f for f in doctor.run_doctor_checks(str(home))}
    assert not findings["plugins"].passed
    assert "my_metrics" in findings["plugins"].sentence
    assert findings["source"].passed
    assert "worst" not in METRICS.list_names()


@pytest.mark.slow
def test_extensions_of_the_package_are_not_those_of_the_plugin_that_imports_it_first(
    home: Path,
) -> None:
    code = (
        "from mlops_kit.project import loader, plugins; loader.load_project(); "
        "print([e.name for p in plugins.list_plugins() for e in p.extensions])"
    )
    completed = subprocess.run(
        [sys.executable, "-c", code],
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert completed.stdout == "['worst']\n"


def test_plugin_with_the_name_of_a_loaded_module_is_refused(home: Path) -> None:
    (home / "json.py").write_text(PLUGIN)
    (home / "mlops.yaml").write_text(SETTINGS.replace("[my_metrics]", "[json]"))
    with pytest.raises(PluginError, match=r"the name of the plugin 'json' is taken by .*json"):
        load_project(home)


def test_folder_without_init_is_refused(home: Path) -> None:
    (home / "empty").mkdir()
    (home / "mlops.yaml").write_text(SETTINGS.replace("[my_metrics]", "[empty]"))
    with pytest.raises(PluginError, match=r"'empty' is a folder without an __init__.py"):
        load_project(home)


def test_two_plugins_with_the_same_name_are_named(home: Path) -> None:
    (home / "more_metrics.py").write_text(PLUGIN)
    (home / "mlops.yaml").write_text(SETTINGS.replace("[my_metrics]", "[my_metrics, more_metrics]"))
    message = r"the plugin 'more_metrics' cannot be loaded: the metric 'worst' is registered twice"
    with pytest.raises(PluginError, match=message):
        load_project(home)


METRIC = """\
from mlops_kit import register_metric

@register_metric("{name}", "{name}", "regression", greater_is_better=False)
def compute(y, score, threshold, weights):
    return 1.0
"""


def list_owners() -> dict[str, list[str]]:
    return {p.module: [e.name for e in p.extensions] for p in plugins.list_plugins()}


def use_plugins(home: Path, *names: str) -> None:
    settings_text = SETTINGS.replace("[my_metrics]", f"[{', '.join(names)}]")
    (home / "mlops.yaml").write_text(settings_text.replace("train: {metric: worst}", ""))
    restart()
    load_project(home)


def test_plugin_that_imports_another_one_owns_only_its_own(home: Path) -> None:
    (home / "first.py").write_text("import second\n" + METRIC.format(name="one"))
    (home / "second.py").write_text(METRIC.format(name="two"))
    use_plugins(home, "first")
    assert list_owners() == {"first": ["two", "one"]}
    use_plugins(home, "second", "first")
    assert list_owners() == {"second": ["two"], "first": ["one"]}
    use_plugins(home, "first", "second")
    assert list_owners() == {"first": ["one"], "second": ["two"]}
    use_plugins(home, "second")
    assert list_owners() == {"second": ["two"]}


def test_package_and_its_submodule_may_both_be_plugins(home: Path) -> None:
    (home / "pkg").mkdir()
    (home / "pkg" / "__init__.py").write_text(METRIC.format(name="one"))
    (home / "pkg" / "sub.py").write_text(METRIC.format(name="two"))
    for names in (["pkg.sub", "pkg"], ["pkg", "pkg.sub"]):
        use_plugins(home, *names)
        assert list_owners()["pkg"] == ["one"]
        assert list_owners()["pkg.sub"] == ["two"]


def test_submodule_of_an_installed_plugin_counts_as_part_of_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "kit_pkg"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from . import inner\n")
    (package / "inner.py").write_text(METRIC.format(name="one"))
    monkeypatch.syspath_prepend(str(package.parent))
    use_plugins(home, "kit_pkg")
    (package / "inner.py").write_text(METRIC.format(name="another"))
    use_plugins(home, "kit_pkg")
    assert list_owners() == {"kit_pkg": ["another"]}


def test_plugin_that_registers_something_else_than_before_is_corrected(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditional = "import os\nif os.environ.get('WITH_ONE'):\n    import inner\n"
    (home / "choice.py").write_text(conditional)
    (home / "inner.py").write_text(METRIC.format(name="one"))
    monkeypatch.setenv("WITH_ONE", "1")
    use_plugins(home, "choice")
    assert "one" in METRICS
    monkeypatch.delenv("WITH_ONE")
    use_plugins(home, "choice")
    with pytest.raises(KitError, match="unknown metric 'one'"):
        METRICS["one"]
    use_plugins(home, "choice")
    assert "one" not in METRICS


def test_what_a_plugin_prints_is_not_output_of_the_command(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "my_metrics.py").write_text("print('hello')\n" + PLUGIN)
    load_project(home)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "hello" in captured.err


@pytest.mark.parametrize(
    "value", ["[null]", "[my-metrics]", "[3]", "{a: b}", "['a.']", "my metrics"]
)
def test_setting_that_names_no_module_is_refused(home: Path, value: str) -> None:
    (home / "mlops.yaml").write_text(SETTINGS.replace("[my_metrics]", value))
    with pytest.raises(KitError, match="is not the name of a module"):
        load_project(home)


def test_unknown_metric_suggests_those_of_plugins(home: Path) -> None:
    (home / "mlops.yaml").write_text(SETTINGS.replace("metric: worst", "metric: wrst"))
    with pytest.raises(KitError, match=r"train.metric: 'wrst' is not known .* expected 'worst'"):
        load_project(home)


def test_installed_package_brings_its_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    metadata = site / "kit_worst-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.4\nName: kit-worst\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[mlops_kit.plugins]\nworst = kit_worst\n")
    (site / "kit_worst.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(site))
    settings_text = SETTINGS.replace("plugins:", "#")
    for name in ("home", "other"):
        home = write_project(tmp_path / name, settings_text=settings_text)
        assert load_project(home).config.search_metric == "worst"
        assert [plugin.module for plugin in plugins.list_plugins()] == ["kit_worst"]
        assert METRICS["worst"].title == "worst error"


def test_doctor_lists_what_plugins_register(home: Path) -> None:
    findings = {f.check_name: f for f in doctor.run_doctor_checks(str(home))}
    assert findings["plugins"].sentence == "my_metrics (metric 'worst')"


def test_module_that_the_notebook_imported_before_is_not_run_twice(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(home))
    __import__("my_metrics")
    assert load_project(home).config.search_metric == "worst"
    assert os.path.samefile(str(sys.modules["my_metrics"].__file__), home / "my_metrics.py")
    assert METRICS["worst"].title == "worst error"
