"""The seeded faults of ``make evidence`` can be seeded in the code as it is."""

from __future__ import annotations

import pytest

from evidence.seeded_faults import FAULTS, Fault
from tests.support.environment import ROOT


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_changes_one_place_and_its_tests_exist(fault: Fault) -> None:
    source = (ROOT / fault.module).read_text()
    assert source.count(fault.original) == 1
    assert fault.mutated != fault.original
    for test in fault.tests:
        path, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}(" in (ROOT / path).read_text()


def test_there_are_thirty_faults_in_different_modules() -> None:
    assert len({fault.module for fault in FAULTS}) == len(FAULTS) >= 30
