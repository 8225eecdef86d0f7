"""The log of what a process used, and its reports from child processes."""

from __future__ import annotations

import json

from mlops_kit.core.file_log import FileLog


def test_child_process_reports_each_record_once_whatever_its_length() -> None:
    names = [f"/data/{number:0100}" for number in range(2000)]
    lines: list[str] = []
    log = FileLog(sink=lines.append)
    for _ in range(2):
        log.add("searches", "/data/", names)
    assert [json.loads(line) for line in lines] == [["searches", "/data/", names]]
