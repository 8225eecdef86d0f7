"""Rows of the source that are set aside: those that violate the contract or cannot be read."""

from __future__ import annotations

from dataclasses import replace

from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import pd
from mlops_kit.data.columns import find_excluded_rows
from mlops_kit.data.contract import load_contract, save_contract
from mlops_kit.data.contract_inference import infer_contract
from mlops_kit.data.contract_validation import ContractReport, validate_rows_against_contract
from mlops_kit.data.reading.records import ReadReport
from mlops_kit.data.reading.summary import describe_rejected_rows
from mlops_kit.project.loader import Project

QUARANTINE_COLUMNS = (
    "quarantine_file",
    "quarantine_line",
    "quarantine_reason",
    "quarantine_text",
)
_MAX_EXAMPLES = 3
_LINE = "line"  # what the report names where it names a column otherwise
_RULE = "readable"


def check_source_rows(
    project: Project,
    rows: pd.DataFrame,
    reading: ReadReport | None,
) -> tuple[ContractReport, pd.DataFrame, pd.DataFrame]:
    """Validate the source's rows against the contract; infer and save one if there is none.

    Parameters
    ----------
    reading : ReadReport, optional
        What was read; rows that could not be read count among those in quarantine.

    Returns
    -------
    report : ContractReport
    accepted, quarantined : DataFrame
    """
    rows = to_pandas(rows)
    config = project.config
    file = project.resolve_path(config.contract.file)
    if not file.exists():
        save_contract(file, infer_contract(rows, config))
    max_share = config.contract.max_quarantined_share
    report, accepted, quarantined = validate_rows_against_contract(
        rows,
        load_contract(file),
        max_share,
        config.time,
        find_excluded_rows(rows, config).to_numpy(),
    )
    if reading is None:
        return report, accepted, quarantined
    report = add_rejected_rows(report, reading, max_share)
    return report, accepted, build_quarantine(quarantined, reading)


def add_rejected_rows(
    report: ContractReport,
    reading: ReadReport,
    max_quarantined_share: float,
) -> ContractReport:
    """Count the rows that could not be read among those in quarantine.

    Parameters
    ----------
    max_quarantined_share : float
        If a larger share of the rows is quarantined, the contract is broken.
    """
    if not reading.rejected_count:
        return report
    read_rows = report.good_rows + report.quarantined_rows
    all_rows = read_rows + reading.rejected_count
    quarantined_rows = report.quarantined_rows + reading.rejected_count
    examples = [
        f"line {line.line}" if line.line else line.reason
        for line in reading.rejected[:_MAX_EXAMPLES]
    ]
    row = {
        "column": _LINE,
        "rule": _RULE,
        "rows": reading.rejected_count,
        "share": reading.rejected_count / all_rows,
        "examples": ", ".join(examples),
    }
    data = pd.DataFrame([row])
    if len(report.data):
        data = pd.concat([report.data, data], ignore_index=True)
    counts = f"{format_number(quarantined_rows)} of {format_number(all_rows)} rows"
    sentences = [report.sentence, describe_rejected_rows(reading)]
    share = (quarantined_rows - report.uncounted_rows) / all_rows
    is_broken = report.is_broken
    if share > max_quarantined_share and not is_broken:
        is_broken = True
        sentences.insert(
            0,
            f"The contract is broken: {counts} ({format_percent(share)}) would be quarantined, "
            f"at most {format_percent(max_quarantined_share)} may be.",
        )
    if not is_broken:
        sentences.append(f"In all, {counts} are in quarantine.")
    return replace(
        report,
        sentence=" ".join(sentences),
        data=data,
        quarantined_rows=quarantined_rows,
        is_broken=is_broken,
    )


def build_quarantine(quarantined: pd.DataFrame, reading: ReadReport) -> pd.DataFrame:
    """Return the rows in quarantine with those that could not be read.

    The latter come first, with file, line, reason and text; their other columns are missing.
    """
    if not reading.rejected:
        return quarantined
    rejected = pd.DataFrame(
        [(line.file, line.line, line.reason, line.text) for line in reading.rejected],
        columns=list(QUARANTINE_COLUMNS),
    )
    combined = pd.concat([rejected, quarantined], ignore_index=True)
    return combined.astype({QUARANTINE_COLUMNS[1]: "Int64"})
