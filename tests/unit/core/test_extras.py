"""A library that is not installed is reported as a missing extra, with the command."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.core.extras import (
    EXTRAS,
    MissingExtraError,
    format_install_command,
    import_from_extra,
    require_extra,
)
from mlops_kit.core.lazy import LazyModule


@pytest.mark.parametrize("extra", EXTRAS)
def test_complete_extra_is_accepted_and_each_missing_module_is_named(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_extra(extra)
    for module in EXTRAS[extra].modules:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(MissingExtraError, match=f"{module} is not installed") as error:
                require_extra(extra)
        assert error.value.hint == f'pip install "mlops-kit[{extra}]"'


def test_error_says_what_is_missing_what_it_is_for_and_what_to_do() -> None:
    error = MissingExtraError("serve", "fastapi")
    assert str(error) == (
        "this needs the 'serve' extra: fastapi is not installed\n"
        "  Expected: the extra 'serve' (the prediction endpoint, mlops serve)\n"
        '  Hint: pip install "mlops-kit[serve]"'
    )
    assert error.exit_code == 2
    assert error.name == "fastapi"


def test_error_is_one_of_the_package_and_an_import_error() -> None:
    """So that ``except ImportError`` works around modules of the package as around others."""
    assert issubclass(MissingExtraError, KitError)
    assert issubclass(MissingExtraError, ImportError)


def test_missing_submodule_is_reported_by_its_library() -> None:
    with (
        pytest.raises(MissingExtraError, match="no_such_library is not installed") as error,
        import_from_extra("train"),
    ):
        import_module("no_such_library.part")
    assert isinstance(error.value.__cause__, ModuleNotFoundError)


def test_other_errors_of_an_import_are_not_changed() -> None:
    with (
        pytest.raises(ImportError, match="cannot import name 'cmyk'") as error,
        import_from_extra("train"),
    ):
        from colorsys import cmyk  # noqa: F401 - importing it is the test
    assert not isinstance(error.value, MissingExtraError)


def test_lazy_module_reports_its_extra() -> None:
    with pytest.raises(MissingExtraError, match="no_such_library is not installed") as error:
        _ = LazyModule("no_such_library", extra="profile").report
    assert error.value.hint == format_install_command("profile")


def test_lazy_module_of_the_base_raises_the_error_of_python() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_library'"):
        _ = LazyModule("no_such_library").report
