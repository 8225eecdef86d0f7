"""Extension registries: a name is registered once, an unknown name lists the known ones."""

from __future__ import annotations

import pytest

from mlops_kit.core.errors import KitError, RunFailedError, WaitingForApprovalError, suggest_names
from mlops_kit.core.extensions import ExtensionKind, ExtensionRegistry, convert_option


@pytest.fixture
def drift_tests() -> ExtensionRegistry[int]:
    registry: ExtensionRegistry[int] = ExtensionRegistry("test")
    registry.register("ks")(1)
    registry.register("chi2")(2)
    return registry


def test_registry_is_a_mapping_in_the_order_of_registration(
    drift_tests: ExtensionRegistry[int],
) -> None:
    assert dict(drift_tests) == {"ks": 1, "chi2": 2}
    assert list(drift_tests) == ["ks", "chi2"]
    assert len(drift_tests) == 2
    assert "ks" in drift_tests
    assert "psi" not in drift_tests


def test_unknown_name_lists_the_known_names(drift_tests: ExtensionRegistry[int]) -> None:
    with pytest.raises(KitError, match=r"unknown test 'chi'") as error:
        drift_tests["chi"]
    assert error.value.expected == "'chi2' (of: chi2, ks)"


def test_name_is_registered_only_once(drift_tests: ExtensionRegistry[int]) -> None:
    with pytest.raises(KitError, match="'ks' is registered twice"):
        drift_tests.register("ks")(3)


def test_unknown_name_is_an_error_for_users(drift_tests: ExtensionRegistry[int]) -> None:
    with pytest.raises(KitError):
        drift_tests["psi"]


def test_error_states_what_was_expected_and_a_hint() -> None:
    assert str(KitError("x is 3", "2", "set x")) == "x is 3\n  Expected: 2\n  Hint: set x"
    assert [e.exit_code for e in (KitError, RunFailedError, WaitingForApprovalError)] == [2, 1, 3]


def test_all_names_are_suggested_if_none_is_similar() -> None:
    assert suggest_names("zzz", ["b", "a"]) == "one of: a, b"


def test_unknown_option_of_a_decorator_lists_the_members() -> None:
    with pytest.raises(KitError, match="the kind 'metrics' is unknown") as error:
        convert_option(ExtensionKind, "metrics", "kind")
    assert error.value.expected.startswith("one of: ExtensionKind.METRIC ('metric'), ")
