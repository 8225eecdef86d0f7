"""Check that the test suite catches 30 seeded faults, one in each of 30 modules.

    python evidence/seeded_faults.py                      # resumes where it was interrupted
    python evidence/seeded_faults.py --only split_gap     # one fault
    python evidence/seeded_faults.py --again              # forgets stored outcomes

For each fault the tracked files are copied into a temporary folder, one text of one module is
replaced, and the tests that should notice it run there. Outcomes are stored in
``build/seeded_faults.json`` until a tracked file changes. Before the first fault the same tests
have to pass in an unchanged copy: a test that fails anyway catches nothing.

Exit codes: 0 if all faults were caught, 1 if one was missed, 2 if one could not be checked.

To add a fault: a ``Fault`` in ``FAULTS``, in a module that has none yet, with unit tests that take
seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STATE_FILE = ROOT / "build" / "seeded_faults.json"
HASH_SEED = "0"  # of the tests' processes, so that sets have the same order in every run
TEST_TIMEOUT_SECONDS = 600
BASELINE = "baseline"  # the name under which the result without a fault is stored
PYTEST_PASSED = 0
PYTEST_FAILED = 1
MAX_OUTPUT_LINES = 15


@dataclass(frozen=True)
class Fault:
    """A mistake in one module, and the tests that should notice it.

    Parameters
    ----------
    name : str
        What goes wrong.
    module : str
        Path of the module, relative to the repository.
    original, mutated : str
        A text that the module has exactly once, and what replaces it.
    tests : tuple of str
        Ids of tests.
    """

    name: str
    module: str
    original: str
    mutated: str
    tests: tuple[str, ...]


class Outcome(StrEnum):
    """Whether the tests noticed a fault; ``ERROR``: they could not be run."""

    CAUGHT = "caught"
    MISSED = "missed"
    ERROR = "error"


@dataclass(frozen=True)
class FaultResult:
    """Outcome of a fault, with the output of the tests unless it was caught."""

    outcome: Outcome
    seconds: float
    details: str = ""


class SeedingError(Exception):
    """A fault cannot be seeded, or the tests do not run against the copy."""


FAULTS = (
    Fault(
        name="half_written_file",
        module="mlops_kit/core/files.py",
        original="write(temporary_path)\n        with",
        mutated="write(path)\n        with",
        tests=("tests/unit/project/test_artifacts.py::test_failed_write_leaves_the_old_file",),
    ),
    Fault(
        name="kernel_imports_followed",
        module="mlops_kit/core/import_tracer.py",
        original="package in KERNEL_PACKAGES or importer in _MODULES_NOT_FOLLOWED",
        mutated="package in KERNEL_PACKAGES and importer in _MODULES_NOT_FOLLOWED",
        tests=(
            "tests/unit/core/test_import_tracer.py::test_imports_of_the_kernel_are_not_the_notebooks",
        ),
    ),
    Fault(
        name="damaged_artifact_read",
        module="mlops_kit/project/artifacts.py",
        original="if sha256 != artifact.sha256:",
        mutated="if not sha256:",
        tests=(
            "tests/unit/project/test_artifacts.py"
            "::test_missing_or_damaged_artifact_is_an_error_with_a_hint",
        ),
    ),
    Fault(
        name="shorter_secret_first",
        module="mlops_kit/project/secrets.py",
        original="reverse=True,",
        mutated="reverse=False,",
        tests=(
            "tests/unit/pipeline/test_cleanup.py::test_longer_of_two_secrets_is_scrubbed_whole",
        ),
    ),
    Fault(
        name="exact_interval",
        module="mlops_kit/stats/proportions.py",
        original='proportion_ci(method="wilson")',
        mutated='proportion_ci(method="exact")',
        tests=("tests/unit/stages/review/test_importance.py::test_wilson_interval_is_the_formula",),
    ),
    Fault(
        name="four_eyes_reversed",
        module="mlops_kit/db/approvals.py",
        original="people.four_eyes and actor == author",
        mutated="people.four_eyes and actor != author",
        tests=("tests/unit/db/test_approvals.py::test_person_without_permission_is_refused",),
    ),
    Fault(
        name="older_label_corrects",
        module="mlops_kit/db/labels.py",
        original="new_label.known_at < current.known_at",
        mutated="new_label.known_at > current.known_at",
        tests=(
            "tests/unit/data/test_labels.py::test_later_label_corrects_and_earlier_one_is_outdated",
        ),
    ),
    Fault(
        name="label_delay_ignored",
        module="mlops_kit/data/source.py",
        original="return frame[config.time] + parse_duration(rule)",
        mutated="return frame[config.time]",
        tests=("tests/unit/data/test_source.py::test_label_is_known_after_its_delay",),
    ),
    Fault(
        name="split_gap",
        module="mlops_kit/data/splitters.py",
        original="times + label_delay > test_start",
        mutated="times > test_start",
        tests=(
            "tests/unit/data/test_splits.py"
            "::test_training_labels_were_known_before_the_test_period",
        ),
    ),
    Fault(
        name="event_of_the_same_time_counted",
        module="mlops_kit/data/features/views.py",
        original="{timestamp} > {name}.seen",
        mutated="{timestamp} >= {name}.seen",
        tests=(
            "tests/unit/data/features/test_views.py"
            "::test_event_at_the_row_timestamp_is_not_counted",
        ),
    ),
    Fault(
        name="duplicates_all_quarantined",
        module="mlops_kit/data/contract_validation.py",
        original="typed_rows.duplicated(key) & has_key",
        mutated="typed_rows.duplicated(key, keep=False) & has_key",
        tests=("tests/unit/data/test_contract.py::test_first_of_duplicate_rows_is_accepted",),
    ),
    Fault(
        name="kernel_machine_made_linear",
        module="mlops_kit/registry/batch_independence.py",
        original='return not is_kernel_machine and hasattr(model, "coef_")',
        mutated='return hasattr(model, "coef_")',
        tests=(
            "tests/unit/registry/test_batch_independence.py"
            "::test_kernel_machines_and_trees_are_left_alone",
        ),
    ),
    Fault(
        name="gap_rows_trained_on",
        module="mlops_kit/stages/train/folds.py",
        original='rows[PART_COLUMN] == "train"',
        mutated='rows[PART_COLUMN] != "test"',
        tests=(
            "tests/unit/stages/train/test_fitting.py"
            "::test_training_rows_are_labeled_of_their_part_and_in_time_order",
        ),
    ),
    Fault(
        name="one_direction_of_auc",
        module="mlops_kit/stats/association.py",
        original="return float(max(area, 1 - area))",
        mutated="return float(area)",
        tests=(
            "tests/unit/stats/test_association.py::test_associations_match_scikit_learn_and_scipy",
        ),
    ),
    Fault(
        name="significance_alone_alerts",
        module="mlops_kit/stages/monitor/drift_classification.py",
        original="column.adjusted_p < limits.alpha and column.effect >= limits.alert_effect",
        mutated="column.adjusted_p < limits.alpha or column.effect >= limits.alert_effect",
        tests=(
            "tests/unit/stages/monitor/test_drift.py::test_tiny_shift_never_alerts_with_many_rows",
        ),
    ),
    Fault(
        name="estimate_of_swapped_classes",
        module="mlops_kit/stages/monitor/performance_estimate.py",
        original="[1 - probabilities, probabilities]",
        mutated="[probabilities, 1 - probabilities]",
        tests=(
            "tests/unit/stages/monitor/test_performance_estimate.py"
            "::test_expected_metric_of_two_rows_matches_hand_calculation",
        ),
    ),
    Fault(
        name="drift_has_to_last_longer",
        module="mlops_kit/stages/monitor/incidents.py",
        original='newest["drifted_windows"] >= config.watch.min_drifted_windows',
        mutated='newest["drifted_windows"] > config.watch.min_drifted_windows',
        tests=(
            "tests/unit/stages/monitor/test_incidents.py"
            "::test_two_of_three_windows_suffice_and_older_ones_are_ignored",
        ),
    ),
    Fault(
        name="cooldown_a_day_longer",
        module="mlops_kit/stages/retrain/rules.py",
        original="elapsed is None or elapsed >= cooldown",
        mutated="elapsed is None or elapsed > cooldown",
        tests=(
            "tests/unit/stages/retrain/test_policy.py"
            "::test_second_retraining_waits_for_the_first_and_for_the_cooldown",
        ),
    ),
    Fault(
        name="manual_approval_skipped",
        module="mlops_kit/stages/deploy/promotion.py",
        original='approval is None and stage.config.approval == "automatic"',
        mutated='approval is None and stage.config.approval != "automatic"',
        tests=(
            "tests/unit/stages/deploy/test_promotion.py::test_manual_approval_waits_and_decides",
        ),
    ),
    Fault(
        name="interval_at_limit_passes",
        module="mlops_kit/stages/review/checks.py",
        original="if gain.low > limit:",
        mutated="if gain.low >= limit:",
        tests=("tests/unit/stages/review/test_checks.py::test_interval_is_compared_with_limit",),
    ),
    Fault(
        name="weak_slice_undecided",
        module="mlops_kit/stages/review/slices.py",
        original="settings.overall_value) < -limits.max_slice_gap",
        mutated="settings.overall_value) > -limits.max_slice_gap",
        tests=(
            "tests/unit/stages/review/test_slices.py::test_group_without_information_is_far_below",
        ),
    ),
    Fault(
        name="pending_input_differs",
        module="mlops_kit/pipeline/fingerprint.py",
        original="not in (content_hash, None)",
        mutated="not in (content_hash,)",
        tests=(
            "tests/unit/pipeline/test_fingerprint.py"
            "::test_pending_input_is_no_difference_but_a_missing_one_is",
        ),
    ),
    Fault(
        name="pending_output_known",
        module="mlops_kit/pipeline/plan.py",
        original="inputs |= dict.fromkeys(names)",
        mutated='inputs |= dict.fromkeys(names, "")',
        tests=("tests/integration/pipeline/test_plan.py::test_plan_is_right_for_many_stages[10]",),
    ),
    Fault(
        name="maximum_is_minimum",
        module="mlops_kit/pipeline/params.py",
        original="read(resolved.value) <= read(resolved.max)",
        mutated="read(resolved.max) <= read(resolved.value)",
        tests=(
            "tests/unit/pipeline/test_params.py"
            "::test_value_outside_its_declaration_is_refused_from_any_source",
        ),
    ),
    Fault(
        name="one_more_run_kept",
        module="mlops_kit/pipeline/cleanup.py",
        original="if rank < self.settings.min_runs:",
        mutated="if rank <= self.settings.min_runs:",
        tests=(
            "tests/unit/pipeline/test_cleanup.py"
            "::test_run_is_removed_only_if_old_and_not_among_the_newest",
        ),
    ),
    Fault(
        name="difference_called_noise",
        module="mlops_kit/pipeline/compare/metrics.py",
        original="is_clear = low > 0 or high < 0",
        mutated="is_clear = low > 0 and high < 0",
        tests=(
            "tests/unit/pipeline/test_compare.py::test_rows_in_another_order_are_the_same_rows",
        ),
    ),
    Fault(
        name="required_value_missing",
        module="mlops_kit/data/contract_rules.py",
        original="ViolationCode.MISSING if self.required else None",
        mutated="None",
        tests=("tests/unit/serving/test_request_schema.py::test_invalid_value_has_its_problem",),
    ),
    Fault(
        name="full_batch_split",
        module="mlops_kit/serving/batcher.py",
        original="if taken and next_row_count > max_rows:",
        mutated="if taken and next_row_count >= max_rows:",
        tests=(
            "tests/unit/serving/test_batcher.py"
            "::test_batch_size_is_limited_and_a_larger_request_is_its_own_batch",
        ),
    ),
    Fault(
        name="above_estimate_is_below",
        module="mlops_kit/watch/windows.py",
        original="compute_gain(measured.value, worst_value) < 0",
        mutated="compute_gain(measured.value, worst_value) > 0",
        tests=(
            "tests/unit/watch/test_windows.py"
            "::test_realized_performance_is_below_all_of_the_interval_of_the_estimate",
        ),
    ),
    Fault(
        name="period_a_day_longer",
        module="mlops_kit/dashboards/text_formats.py",
        original="last = end_local - timedelta(days=1)",
        mutated="last = end_local",
        tests=("tests/unit/dashboards/test_monitoring.py::test_periods_are_named_by_their_days",),
    ),
)


def list_tracked_files() -> list[str]:
    """List the tracked files that are in the working tree."""
    completed = subprocess.run(
        ["git", "ls-files", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    names = completed.stdout.split("\0")
    return [name for name in names if (ROOT / name).is_file()]


def hash_repository(names: Iterable[str]) -> str:
    """Hash the names and contents of files: results are valid as long as none of them changes."""
    digest = hashlib.sha256()
    for name in names:
        content = (ROOT / name).read_bytes()
        digest.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


def copy_repository(names: Iterable[str], folder: Path) -> None:
    """Copy files of the repository into a folder."""
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)


def insert_fault(folder: Path, fault: Fault) -> None:
    """Replace the original text of a fault in a copy of the repository.

    Raises
    ------
    SeedingError
        If the module does not have the text exactly once.
    """
    path = folder / fault.module
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    count = text.count(fault.original)
    if count != 1:
        raise SeedingError(
            f"{fault.module} has the text {fault.original!r} {count} times, expected once: "
            f"edit the fault {fault.name!r} in evidence/seeded_faults.py"
        )
    path.write_text(text.replace(fault.original, fault.mutated), encoding="utf-8")


def build_environment(folder: Path) -> dict[str, str]:
    """Build the environment in which Python imports the package from a copy."""
    return {**os.environ, "PYTHONPATH": str(folder), "PYTHONHASHSEED": HASH_SEED}


def check_imported_copy(folder: Path) -> None:
    """Check that the package is imported from a copy, not from the installed checkout.

    Raises
    ------
    SeedingError
        If it is not.
    """
    completed = subprocess.run(
        [sys.executable, "-c", "import mlops_kit; print(mlops_kit.__file__)"],
        cwd=folder,
        env=build_environment(folder),
        capture_output=True,
        text=True,
        check=True,
    )
    imported = Path(completed.stdout.strip()).resolve()
    if not imported.is_relative_to(folder.resolve()):
        raise SeedingError(f"mlops_kit is imported from {imported}, expected a file in {folder}")


def run_tests(folder: Path, tests: Iterable[str]) -> subprocess.CompletedProcess[str]:
    """Run tests in a copy of the repository."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
        cwd=folder,
        env=build_environment(folder),
        capture_output=True,
        text=True,
        timeout=TEST_TIMEOUT_SECONDS,
        check=False,
    )


def get_last_lines(text: str) -> str:
    """Return the last lines of an output."""
    return "\n".join(text.strip().splitlines()[-MAX_OUTPUT_LINES:])


def check_baseline(names: list[str]) -> None:
    """Check that the tests of all faults pass in an unchanged copy.

    Raises
    ------
    SeedingError
        If a test fails, or the package is not imported from the copy.
    """
    tests = dict.fromkeys(test for fault in FAULTS for test in fault.tests)
    with tempfile.TemporaryDirectory(prefix="seeded-faults-") as name:
        folder = Path(name)
        copy_repository(names, folder)
        check_imported_copy(folder)
        completed = run_tests(folder, tests)
    if completed.returncode != PYTEST_PASSED:
        output = get_last_lines(completed.stdout + completed.stderr)
        raise SeedingError(f"the tests do not pass without a fault:\n{output}")


def check_fault(names: list[str], fault: Fault) -> FaultResult:
    """Run the tests of a fault in a copy that has it."""
    started_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="seeded-faults-") as name:
        folder = Path(name)
        copy_repository(names, folder)
        try:
            insert_fault(folder, fault)
            completed = run_tests(folder, fault.tests)
        except (SeedingError, subprocess.TimeoutExpired) as error:
            return FaultResult(Outcome.ERROR, time.monotonic() - started_at, str(error))
    seconds = time.monotonic() - started_at
    if completed.returncode == PYTEST_FAILED:
        return FaultResult(Outcome.CAUGHT, seconds)
    output = get_last_lines(completed.stdout + completed.stderr)
    if completed.returncode == PYTEST_PASSED:
        return FaultResult(Outcome.MISSED, seconds, output)
    return FaultResult(
        Outcome.ERROR,
        seconds,
        f"pytest ended with exit code {completed.returncode}:\n{output}",
    )


def load_outcomes(repository_hash: str) -> dict[str, str]:
    """Load the outcomes by name; none if a tracked file has changed since they were stored."""
    if not STATE_FILE.exists():
        return {}
    state: dict[str, Any] = json.loads(STATE_FILE.read_text(encoding="utf-8"))
    if state["repository"] != repository_hash:
        return {}
    return dict(state["outcomes"])


def save_outcomes(repository_hash: str, outcomes: dict[str, str]) -> None:
    """Save the outcomes by name; a killed process leaves the earlier file."""
    STATE_FILE.parent.mkdir(exist_ok=True)
    state = {"repository": repository_hash, "outcomes": outcomes}
    temporary_file = STATE_FILE.with_suffix(".tmp")
    temporary_file.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    temporary_file.replace(STATE_FILE)


def check_faults(faults: list[Fault], forget: bool) -> dict[str, str]:
    """Check faults, print a line for each, and return their outcomes by name.

    Parameters
    ----------
    forget : bool
        Whether to check them even if their outcomes are stored.
    """
    names = list_tracked_files()
    repository_hash = hash_repository(names)
    stored = load_outcomes(repository_hash)
    if forget:
        for forgotten in (BASELINE, *(fault.name for fault in faults)):
            stored.pop(forgotten, None)
    if BASELINE not in stored:
        check_baseline(names)
        stored[BASELINE] = "passed"
        save_outcomes(repository_hash, stored)
    outcomes = {}
    for fault in faults:
        if fault.name in stored:
            outcomes[fault.name] = stored[fault.name]
            print_outcome(fault, stored[fault.name], "stored")
            continue
        result = check_fault(names, fault)
        outcomes[fault.name] = result.outcome.value
        print_outcome(fault, result.outcome, f"{result.seconds:.1f} s", result.details)
        if result.outcome != Outcome.ERROR:
            stored[fault.name] = result.outcome.value
            save_outcomes(repository_hash, stored)
    return outcomes


def print_outcome(fault: Fault, outcome: str, note: str, details: str = "") -> None:
    """Print the line of a fault, and details below it."""
    print(f"{outcome:<7} {fault.name:<31} {fault.module} ({note})", flush=True)
    if details:
        print(details, flush=True)


def summarize_outcomes(outcomes: dict[str, str]) -> str:
    """Summarize how many faults were caught, and name the others."""
    caught = [name for name, outcome in outcomes.items() if outcome == Outcome.CAUGHT]
    others = [f"{name} ({outcome})" for name, outcome in outcomes.items() if name not in caught]
    summary = f"{len(caught)} of {len(outcomes)} seeded faults were caught"
    if others:
        return f"{summary}; not caught: {', '.join(others)}"
    return summary


def main() -> int:
    """Check the faults that the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(description="Check that the tests catch seeded faults.")
    parser.add_argument("--only", metavar="NAME", choices=[fault.name for fault in FAULTS])
    parser.add_argument("--again", action="store_true", help="forget stored outcomes")
    options = parser.parse_args()
    faults = [fault for fault in FAULTS if options.only in (None, fault.name)]
    try:
        outcomes = check_faults(faults, options.again)
    except (SeedingError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return 2
    print(summarize_outcomes(outcomes))
    if Outcome.MISSED in outcomes.values():
        return 1
    return 2 if Outcome.ERROR in outcomes.values() else 0


if __name__ == "__main__":
    sys.exit(main())
