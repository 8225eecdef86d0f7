"""A registry: a name is had once, and an unknown one lists those there are."""

from __future__ import annotations

import pytest

from mlops_kit.core.errors import KitError, RunFailedError, WaitingForApprovalError, suggest_names
from mlops_kit.core.extensions import ExtensionRegistry


@pytest.fixture
def tests() -> ExtensionRegistry[int]:
    made: ExtensionRegistry[int] = ExtensionRegistry("test")
    made.register("ks")(1)
    made.register("chi2")(2)
    return made


def test_it_reads_as_a_mapping_in_the_order_of_registration(tests: ExtensionRegistry[int]) -> None:
    assert dict(tests) == {"ks": 1, "chi2": 2}
    assert list(tests) == ["ks", "chi2"]
    assert len(tests) == 2
    assert "ks" in tests
    assert "psi" not in tests


def test_an_unknown_name_lists_those_known(tests: ExtensionRegistry[int]) -> None:
    with pytest.raises(KitError, match=r"unknown test 'chi'") as error:
        tests["chi"]
    assert error.value.expected == "'chi2' (of: chi2, ks)"


def test_a_name_is_registered_once(tests: ExtensionRegistry[int]) -> None:
    with pytest.raises(ValueError, match="'ks' is registered twice"):
        tests.register("ks")(3)


def test_get_of_an_unknown_name_is_worded_too(tests: ExtensionRegistry[int]) -> None:
    with pytest.raises(KitError):
        tests["psi"]


def test_an_error_says_what_was_expected_and_what_mends_it() -> None:
    assert str(KitError("x is 3", "2", "set x")) == "x is 3\n  expected: 2\n  to mend it: set x"
    assert [e.exit_code for e in (KitError, RunFailedError, WaitingForApprovalError)] == [2, 1, 3]


def test_nothing_near_lists_all() -> None:
    assert suggest_names("zzz", ["b", "a"]) == "one of: a, b"
