"""The parameters cell: what is read, how values are cast, what is refused, what arrives."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager
from papermill.translators import PythonTranslator

from mlops_kit.core import serialization
from mlops_kit.core.errors import KitError
from mlops_kit.pipeline import param_types, parameter_cell, params
from mlops_kit.pipeline.param_types import Parameter, UntypedText
from mlops_kit.project import loader
from tests.support.environment import ROOT

CELL = """\
trials: int = 3  # Recipes that are tried.
rate: float = 0.5  # Share.
name: str = "a"  # Name.
deep: bool = False  # Whether all.
many: list = []  # Names.
table: dict = {}  # Limits.
place: Path = "data"  # Folder.
day: date = "2013-07-01"  # Day.
seed: int = 0  # Seed.
as_of = ""  # Moment.
"""


def write_parameters_cell(folder: Path, text: str, tag: str = "parameters") -> Path:
    (folder / "n.ipynb").write_text(
        json.dumps(
            {"cells": [{"cell_type": "code", "metadata": {"tags": [tag]}, "source": [text]}]}
        )
    )
    return folder / "n.ipynb"


def create_project(home: Path, stage: str = "", cell: str = CELL, top: str = "") -> loader.Project:
    (home / "notebooks").mkdir(exist_ok=True)
    write_parameters_cell(home, cell).replace(home / "notebooks" / "n.ipynb")
    (home / "mlops.yaml").write_text(
        f"name: tiny\n{top}stages: {{one: {{notebook: n.ipynb{', ' if stage else ''}{stage}}}}}\n"
    )
    return loader.load_project(home)


def resolve_with_origins(
    home: Path, typed: dict[str, Any] | None = None, **more: str
) -> dict[str, tuple[Any, str]]:
    return {
        n: (r.value, r.origin)
        for n, r in params.resolve_parameters(
            create_project(home, **more), "one", typed or {}
        ).items()
    }


def test_name_type_default_and_description_are_read(tmp_path: Path) -> None:
    found = parameter_cell.read_parameters(write_parameters_cell(tmp_path, CELL))
    assert found["trials"] == Parameter("trials", "int", 3, "Recipes that are tried.")
    assert (found["as_of"].type, list(found)[-1]) == ("", "as_of")


@pytest.mark.parametrize(
    ("line", "kind", "default", "sentence"),
    [
        ('n: str = "x#1"  # Sentence.', "str", "x#1", "Sentence."),
        ('n: str = "Größe#"  # Sentence.', "str", "Größe#", "Sentence."),
        ("n: list = [\n  1,  # one\n  2,\n]  # Sentence.", "list", [1, 2], "Sentence."),
        ('n: "int" = -3  # Sentence.', "int", -3, "Sentence."),
        ("n: dict[str, list[int]] = {}", "dict[str, list[int]]", {}, ""),
        ("n = 5  # Of its default's type.", "int", 5, "Of its default's type."),
        ("# Above.\n\nn = None", "", None, ""),
    ],
)
def test_line_is_parsed_as_python(
    tmp_path: Path, line: str, kind: str, default: object, sentence: str
) -> None:
    assert parameter_cell.read_parameters(write_parameters_cell(tmp_path, line)) == {
        "n": Parameter("n", kind, default, sentence)
    }
    assert [p.name for p in PythonTranslator.inspect({"source": line})] == ["n"]


@pytest.mark.parametrize(
    ("cell", "kind", "default"),
    [
        (
            'n: str = "postgres://host/db?sslmode=require"',
            "str",
            "postgres://host/db?sslmode=require",
        ),
        ("n: int = 1  # Rows (n = 20).", "int", 1),
        ('n: dict = {\n  "a": 1,  # n = 1\n}', "dict", {"a": 1}),
        ("a: int = 1; n: int = 2", "int", 2),
        ("n: int = 1\nn: int = 2", "int", 2),
        ("import os\nn = 1", "int", 1),
        ("if True:\n    pass\nn = 1", "int", 1),
        ("%matplotlib inline\n!pwd\nn = 1", "int", 1),
        ("%%time\nn = 1", "int", 1),
        ("a = n = 3", "int", 3),
        ("n: np.int64 = 1", "int", 1),
        ("n: flaot = 1", "int", 1),
        ("n: pd.Timestamp = None", "", None),
        ("n: Literal['a', 'b'] = 'a'", "str", "a"),
        ("n: list[int | str] = [1]", "list", [1]),
        ("n: int | str = 1", "int", 1),
    ],
)
def test_what_papermill_runs_is_accepted(
    tmp_path: Path, cell: str, kind: str, default: object
) -> None:
    found = parameter_cell.read_parameters(write_parameters_cell(tmp_path, cell))
    assert (found["n"].type, found["n"].default) == (kind, default)


@pytest.mark.parametrize(
    ("cell", "source"),
    [
        ("n: int = max(1, 2)", "max(1, 2)"),
        ("from datetime import date\nn = date(2024, 2, 29)", "date(2024, 2, 29)"),
        ("n = (1, 2)", "(1, 2)"),
        ("n = {1, 2}", "{1, 2}"),
        ("n = b'x'", "b'x'"),
        ("n: dict = {1: 2}", "{1: 2}"),
        ("n: dict = {[]: 2}", "{[]: 2}"),
        ("n = [(1, 2)]", "[(1, 2)]"),
        ("import os\nn = os.environ['HOME']", "os.environ['HOME']"),
        ("n = f'{1}'", "f'{1}'"),
        ("n: int", "not set"),
        ("n, m = 1, 2", "(1, 2)"),
        ("n = !pwd", "..."),
        ("n = 1\nif n:\n    n = 2", "if n:"),
        ("n = 1\nn += 1", "n += 1"),
        ("try:\n    n = 1\nexcept OSError:\n    pass", "try:"),
        ("for n in range(3):\n    pass", "for n in range(3):"),
        ("with open('x') as n:\n    pass", "with open('x') as n:"),
    ],
)
def test_default_that_the_notebook_computes_is_left_to_it(
    tmp_path: Path, cell: str, source: str
) -> None:
    found = parameter_cell.read_parameters(write_parameters_cell(tmp_path, cell))
    assert repr(found["n"].default) == source
    project = create_project(tmp_path, cell=cell)
    resolved = params.resolve_parameters(project, "one", {})
    assert "n" not in params.extract_values(resolved)
    text = '{"a": 5}' if found["n"].type == "dict" else "5"
    resolved = params.resolve_parameters(project, "one", {"n": UntypedText(text)})
    assert params.extract_values(resolved)["n"] == json.loads(text)


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        ("int | None", "int"),
        ("None | float", "float"),
        ("Optional[str]", "str"),
        ("typing.Optional[list[int]]", "list[int]"),
        ("Union[int, None]", "int"),
        ("'int | None'", "int"),
        ("List[int] | None", "list[int]"),
        ("Optional[Dict[str, int]]", "dict[str, int]"),
        ("Optional[np.int64]", "int"),
    ],
)
def test_optional_type_accepts_none_and_its_type(
    tmp_path: Path, annotation: str, kind: str
) -> None:
    values = {"int": 3, "float": 0.5, "str": "a", "list[int]": [1], "dict[str, int]": {"a": 1}}
    cell = f"n: {annotation} = {values[kind]!r}"
    [parameter] = parameter_cell.read_parameters(write_parameters_cell(tmp_path, cell)).values()
    assert (parameter.type, parameter.is_optional) == (kind, True)
    assert param_types.cast_value("one", parameter, None, "-p") is None
    assert param_types.cast_value("one", parameter, values[kind], "-p") == values[kind]


@pytest.mark.parametrize("tag", ["other", ""])
def test_notebook_without_a_parameters_cell_has_none(tmp_path: Path, tag: str) -> None:
    path = write_parameters_cell(tmp_path, "seed: int = 1", tag=tag)
    assert parameter_cell.read_parameters(path) == {}


def test_cell_that_is_not_python_is_explained(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"n\.ipynb") as error:
        parameter_cell.read_parameters(write_parameters_cell(tmp_path, "a: int = 1\nb: int ="))
    assert "line 2 of the parameters cell is not Python: 'b: int ='" in error.value.message
    assert error.value.hint


@pytest.mark.parametrize(
    "text", ["", "no notebook", "[]", "{}", '{"cells": [{"cell_type": "code"}]}']
)
def test_file_that_is_not_a_notebook_is_explained(tmp_path: Path, text: str) -> None:
    (tmp_path / "n.ipynb").write_text(text)
    with pytest.raises(KitError, match=r"n\.ipynb is not a notebook"):
        parameter_cell.read_parameters(tmp_path / "n.ipynb")


@pytest.mark.parametrize("book", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_shipped_notebooks_have_described_parameters(book: Path) -> None:
    assert all(p.description for p in parameter_cell.read_parameters(book).values())


TEXTS = [
    ("int", "007", 7),
    ("int", "-3", -3),
    ("int", "null", None),
    ("float", "1e5", 1e5),
    ("float", "7", 7.0),
    ("float", "inf", math.inf),
    ("float", "-inf", -math.inf),
    ("str", "007", "007"),
    ("str", "null", "null"),
    ("str", "", ""),
    ("str", "a=b", "a=b"),
    ("str", "yes", "yes"),
    ("bool", "true", True),
    ("bool", "No", False),
    ("bool", "1", True),
    ("list", "[1, a]", [1, "a"]),
    ("list[str]", "[a]", ["a"]),
    ("dict", "{a: 1}", {"a": 1}),
    ("dict", '{"a": [1.5, null]}', {"a": [1.5, None]}),
    ("Path", "a b/c", "a b/c"),
    ("date", "2013-07-01", "2013-07-01"),
    ("datetime", "2013-07-01T06:00", "2013-07-01T06:00"),
    ("", "2013-07-01", "2013-07-01"),
    ("", "3", 3),
    ("", "text", "text"),
    ("", "", ""),
    ("list", "[1e5, NaN_]", ["1e5", "NaN_"]),
    ("list[float]", "[1e5, 2]", [1e5, 2.0]),
    ("list[str]", "[007, 8, null]", ["007", "8", "null"]),
    ("dict[str, str]", "{a: 1}", {"a": "1"}),
    ("list", "[2013-07-01]", ["2013-07-01"]),
    ("", "[1, {a: b}]", [1, {"a": "b"}]),
    ("", "null", None),
    ("dict[str, list[int]]", '{"a": [1]}', {"a": [1]}),
]


@pytest.mark.parametrize(("kind", "text", "value"), TEXTS)
def test_text_is_parsed_as_the_declared_type(kind: str, text: str, value: object) -> None:
    made = param_types.cast_value("one", Parameter("p", kind, None, ""), UntypedText(text), "-p")
    assert (made, type(made)) == (value, type(value))


def test_nan_is_parsed_as_a_float() -> None:
    assert math.isnan(
        param_types.cast_value("one", Parameter("p", "float", None, ""), UntypedText("nan"), "-p")
    )


VALUES = [
    ("int", 3, 3),
    ("int", None, None),
    ("float", 2, 2.0),
    ("float", -0.0, -0.0),
    ("str", "a", "a"),
    ("list", (1, (2,)), [1, [2]]),
    ("dict", {"a": {"b": [None]}}, {"a": {"b": [None]}}),
    ("int", np.int64(5), 5),
    ("float", np.float32(0.5), 0.5),
    ("bool", np.bool_(True), True),
    ("str", np.str_("four"), "four"),
    ("str", Path("a/b"), "a/b"),
    ("Path", Path("a/b"), "a/b"),
    ("date", date(2013, 7, 1), "2013-07-01"),
    ("date", datetime(2013, 7, 1), "2013-07-01"),
    ("list[float]", [1, 2.5], [1.0, 2.5]),
    ("list[list[int]]", [[1]], [[1]]),
    ("datetime", datetime(2013, 7, 1, 6, tzinfo=UTC), "2013-07-01T06:00:00+00:00"),
    ("list", [np.int8(1), Path("x")], [1, "x"]),
    ("", 5, 5),
    ("", [1.5], [1.5]),
]


@pytest.mark.parametrize(("kind", "value", "made"), VALUES)
def test_value_that_arrives_unchanged_is_accepted(kind: str, value: object, made: object) -> None:
    found = param_types.cast_value("one", Parameter("p", kind, None, ""), value, "-p")
    assert (found, type(found)) == (made, type(made))


def nest_list(levels: int) -> list[Any]:
    """A list in a list in a list …"""
    return [nest_list(levels - 1)] if levels else []


REFUSED = [
    ("int", "3"),
    ("int", True),
    ("int", 3.5),
    ("int", UntypedText("3.5")),
    ("int", UntypedText("x")),
    ("int", UntypedText("")),
    ("float", "1"),
    ("float", True),
    ("float", UntypedText("x")),
    ("str", 3),
    ("bool", 1),
    ("bool", UntypedText("maybe")),
    ("list", "a"),
    ("list", {"a": 1}),
    ("dict", [1]),
    ("date", UntypedText("2013-13-01")),
    ("date", "soon"),
    ("datetime", UntypedText("x")),
    ("", {1, 2}),
    ("", b"x"),
    ("", {1: "a"}),
    ("", np.arange(3)),
    ("", complex(1)),
    ("", np.complex64(1)),
    ("", timedelta(1)),
    ("", object()),
    ("list", [b"x"]),
    ("dict", {"a": {1: 2}}),
    ("list", UntypedText("[1, ")),
    ("", np.longdouble(1)),
    ("list[int]", ["a"]),
    ("list[int]", UntypedText("[a]")),
    ("dict[str, int]", {"a": 1.5}),
    ("float", 2**53 + 1),
    ("float", 10**400),
    ("", pd.NaT),
    ("str", UntypedText("\udcff")),
    ("", {"\udcff": 1}),
    ("", {"__kind__": "Table"}),
    ("", {"__float__": 1}),
    ("date", datetime(2013, 7, 1, 6)),
    ("bool", UntypedText("")),
    ("list", UntypedText("")),
    ("", nest_list(101)),
    ("dict", UntypedText("{1: a}")),
    ("", UntypedText("[1")),
    ("list", UntypedText("!!set {a}")),
]


@pytest.mark.parametrize(
    ("kind", "value"),
    REFUSED,
    ids=[f"{k or 'any'}-{type(v).__name__}-{n}" for n, (k, v) in enumerate(REFUSED)],
)
def test_value_of_wrong_type_or_that_would_change_is_refused(kind: str, value: object) -> None:
    with pytest.raises(KitError, match=r"one\.p: ") as error:
        param_types.cast_value(
            "one", Parameter("p", kind, None, "What it means."), value, "mlops.yaml"
        )
    assert "What it means." in error.value.expected
    assert "mlops.yaml" in error.value.message


def test_none_is_accepted_only_where_it_is_the_default() -> None:
    with pytest.raises(KitError, match=r"one.p: None \(mlops.yaml\) is not a valid int"):
        param_types.cast_value("one", Parameter("p", "int", 3, ""), None, "mlops.yaml")


@pytest.mark.parametrize(
    ("origin", "hint"),
    [
        ("-p", "-p one.p=…"),
        ("notebook", "edit the parameters cell of one"),
        ("mlops.yaml", "correct mlops.yaml"),
        ("environment MLOPS_PARAM_ONE_P", "correct environment MLOPS_PARAM_ONE_P"),
    ],
)
def test_hint_names_the_origin_of_the_value(origin: str, hint: str) -> None:
    with pytest.raises(KitError) as error:
        param_types.cast_value("one", Parameter("p", "int", 3, ""), "x", origin)
    assert error.value.hint == hint


def format_literal(value: object) -> str:
    """The cell that papermill puts in for a value."""
    return str(
        PythonTranslator.codify(
            {"p": param_types.cast_value("one", Parameter("p", "", None, ""), value, "-p")}
        )
    )


def pass_through_papermill(value: object) -> Any:
    """What a value is in a kernel, after papermill has written it down."""
    names: dict[str, Any] = {}
    exec(format_literal(value), names)
    return names["p"]


keys = st.text().filter(lambda k: k not in param_types.RESERVED_KEYS)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(keys, inner),
    max_leaves=12,
)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(plain)
def test_accepted_value_round_trips_through_kernel_manifest_and_command(
    value: Any,
) -> None:
    manifest = json.dumps(
        serialization.to_json_value(param_types.encode_value(value)), allow_nan=False
    )  # as store.write_json does
    command = params.parse_parameter_options(
        [params.format_parameter_option("one.p", value)], ["one"]
    )["one"]["p"]
    # repr tells -0.0 from 0.0, True from 1, and knows nan
    assert {
        repr(v)
        for v in (
            pass_through_papermill(value),
            param_types.normalize_value(serialization.from_json_value(json.loads(manifest))),
            param_types.normalize_value(command),
        )
    } == {repr(value)}


@pytest.mark.parametrize(
    "text",
    [
        "quote \" and ' and \\",
        "line\nbreak\ttab\r",
        "Straße → 東京 🛫",
        "{braces} %s ${X}",
        "",
        "\\n",
        "'''",
        "\u2028\x00",
        "!ls",
        "%magic",
        "help?",
    ],
)
def test_any_text_arrives_unchanged(text: str) -> None:
    assert pass_through_papermill(text) == text
    assert pass_through_papermill({text: [text]}) == {text: [text]}
    assert TransformerManager().transform_cell(format_literal(text)) == format_literal(
        text
    )  # IPython finds no magic in it


def test_later_sources_override_earlier_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_with_origins(tmp_path)["trials"] == (3, "notebook")
    assert resolve_with_origins(tmp_path, cell="seed: int = 9  # Seed.")["seed"] == (9, "notebook")
    assert resolve_with_origins(tmp_path, top="seed: 4\n")["seed"] == (4, "mlops.yaml")
    assert resolve_with_origins(tmp_path, stage="params: {trials: 5, seed: 6}", top="seed: 4\n")[
        "seed"
    ] == (
        6,
        "mlops.yaml",
    )
    monkeypatch.setenv("MLOPS_PARAM_ONE_TRIALS", "007")
    assert resolve_with_origins(tmp_path, stage="params: {trials: 5}")["trials"] == (
        7,
        "environment MLOPS_PARAM_ONE_TRIALS",
    )
    assert resolve_with_origins(
        tmp_path, {"trials": UntypedText("8")}, stage="params: {trials: 5}"
    )["trials"] == (
        8,
        "-p",
    )


def test_run_wide_value_has_the_origin_of_the_setting(tmp_path: Path) -> None:
    made = create_project(
        tmp_path,
        cell="sample: int = 0\nas_of: date = '2012-01-01'\nuntil = ''\nseed: int = 0",
        top="target: y\ntime: t\nas_of: 2013-07-01\n",
    ).with_values("the command line", sample=50)
    found = params.resolve_parameters(made, "one", {})
    assert {n: (r.value, r.origin) for n, r in found.items()} == {
        "sample": (50, "the command line"),
        "as_of": ("2013-07-01", "mlops.yaml"),
        "until": ("", "notebook"),
        "seed": (0, "notebook"),
    }
    assert params.extract_values(found)["sample"] == 50


@pytest.mark.parametrize(
    ("cell", "type_name"), [("n = []\nn.append(1)", "list"), ("n = {}\nn['a'] = 1", "dict")]
)
def test_default_that_later_code_changes_is_left_to_the_notebook(
    tmp_path: Path, cell: str, type_name: str
) -> None:
    found = parameter_cell.read_parameters(write_parameters_cell(tmp_path, cell))["n"]
    assert isinstance(found.default, param_types.ComputedDefault)
    assert (found.type, found.is_untyped) == (type_name, False)


def test_value_whose_type_cannot_be_told_is_passed_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cell = "from datetime import date\nday = date(2024, 2, 29)\nlimits = (1, 2)\nn = None"
    given_values = {"day": UntypedText("2025-01-01"), "limits": [3, 4], "n": 5}
    values = resolve_with_origins(tmp_path, given_values, cell=cell)
    assert {name: value for name, (value, _) in values.items()} == {
        "day": "2025-01-01",
        "limits": [3, 4],
        "n": 5,
    }
    warned = [record.getMessage().split()[0] for record in caplog.records]
    assert warned == ["one.day", "one.limits"]


def test_unknown_name_suggests_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KitError, match="no parameter 'trails'") as error:
        resolve_with_origins(tmp_path, {"trails": UntypedText("1")})
    assert error.value.expected.startswith("'trials'")
    with pytest.raises(KitError, match="no parameter 'trails'"):
        resolve_with_origins(tmp_path, stage="params: {trails: 1}")
    monkeypatch.setenv("MLOPS_PARAM_ONE_TRAILS", "1")
    with pytest.raises(KitError, match="MLOPS_PARAM_ONE_TRAILS does not name a parameter") as error:
        resolve_with_origins(tmp_path)
    assert "MLOPS_PARAM_ONE_TRIALS" in error.value.expected


@pytest.mark.parametrize(
    ("declared", "given", "said"),
    [
        (
            "trials: {min: 1, max: 9}",
            {"trials": UntypedText("10")},
            "10 (-p) is out of its range",
        ),
        ("trials: {min: 4}", {}, "3 (notebook) is out of its range"),
        ("trials: {value: 12, max: 9}", {}, "12 (mlops.yaml) is out of its range"),
        ("rate: {min: 0, max: 1}", {"rate": UntypedText("nan")}, "nan (-p) is out of its range"),
        ("name: {choices: [quick, full]}", {}, "'a' (notebook) is not among its choices"),
        (
            "name: {choices: [quick, full], value: quick}",
            {"name": UntypedText("quik")},
            "'quik' (-p) is not among its choices",
        ),
        ("day: {min: 2013-08-01}", {}, "'2013-07-01' (notebook) is out of its range"),
        (
            "day: {max: 2013-06-30}",
            {"day": UntypedText("20130701")},
            "'20130701' (-p) is out of its range",
        ),
        ("as_of: {min: 3}", {"as_of": UntypedText("text")}, "'text' (-p) is out of its range"),
        ("trials: {min: a}", {}, "'a' (min of mlops.yaml) is not a valid int"),
        ("name: {choices: [a, 7]}", {}, "7 (choices of mlops.yaml) is not a valid str"),
        ("name: {choices: quick}", {}, "has the choices 'quick'"),
        ("trials: {lest: 1}", {}, "stages.one.params.trials has the key 'lest'"),
        ("as_of: {a: 1}", {}, "stages.one.params.as_of has the key 'a'"),
        ("table: {choices: [{a: 1}]}", {}, "{} (notebook) is not among its choices"),
    ],
)
def test_value_outside_its_declaration_is_refused_from_any_source(
    tmp_path: Path, declared: str, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(KitError) as error:
        resolve_with_origins(tmp_path, given, stage=f"params: {{{declared}}}")
    assert said in error.value.message
    assert error.value.expected


def test_declaration_is_distinguished_from_a_dict_value(tmp_path: Path) -> None:
    found = params.resolve_parameters(
        create_project(tmp_path, stage="params: {trials: {value: 5, max: 9}, table: {value: 1}}"),
        "one",
        {},
    )
    assert (
        found["trials"].value,
        found["trials"].max,
        params.describe_allowed_values(found["trials"]),
    ) == (
        5,
        9,
        "at most 9",
    )
    assert found["table"].value == {"value": 1}
    found = params.resolve_parameters(
        create_project(tmp_path, stage="params: {as_of: {value: {a: 1}}, table: {min: 1, a: 2}}"),
        "one",
        {},
    )
    assert (found["as_of"].value, found["table"].value) == ({"a": 1}, {"min": 1, "a": 2})


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("trials=5", "cannot be parsed"),
        ("train.trials", "cannot be parsed"),
        ("trian.trials=5", "unknown stage 'trian'"),
        ("train.trials:=x", "cannot be parsed"),
    ],
)
def test_parameter_option_is_parsed_or_explained(item: str, said: str) -> None:
    assert params.parse_parameter_options(["train.name=a=b", "train.trials=5"], ["train"]) == {
        "train": {"name": "a=b", "trials": "5"}
    }
    with pytest.raises(KitError, match=said):
        params.parse_parameter_options([item], ["train"])
