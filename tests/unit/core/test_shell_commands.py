"""What a shell command runs, reads and writes is read from its text."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_kit.core.shell_commands import analyze_commands, analyze_program

FOLDER = "/data"


@pytest.mark.parametrize(
    ("text", "paths", "untraced"),
    [
        ("cat a.txt", ["/data/a.txt"], []),
        ("cat 'a b.txt' | sort -u", ["/data/a b.txt"], []),
        ("cd sub && head -n1 x", ["/data/sub/x"], []),
        ("wc -l < a.txt", ["/data/a.txt"], []),
        ("for f in *.csv; do cat $f; done", ["/data/*.csv"], []),
        ("D=sub; cat $D/x", ["/data/sub/x"], []),
        ("cat $UNKNOWN_FOLDER/x", [], ["$UNKNOWN_FOLDER/x"]),
        ("curl -s https://example.org | tar -xz", [], ["curl"]),
        ("LANG=C git log", [], ["git"]),
        ("echo $(psql -c query)", [], ["psql"]),
        ("cat $(find . -name x)", [], ["$(…)"]),
        ("if true; then wget x; fi  # and curl", [], ["wget"]),
        ("grep 'not closed", [], ["sh"]),
        ("grep '#1' a.txt  # don't read b.txt", ["/data/#1", "/data/a.txt"], []),
        ("# don't\ncat a.txt", ["/data/a.txt"], []),
        ("D=sub; D=$(pwd); cat $D/x", [], ["$D/x"]),
        ("A=a; AB=b; cat $A/$AB", ["/data/a/b"], []),
        ("cat <<END\ncurl x\nEND\ncat b", ["/data/b"], []),
    ],
)
def test_files_and_programs_of_a_command(text: str, paths: list[str], untraced: list[str]) -> None:
    uses = analyze_commands(text, FOLDER)
    names = [path for path in uses.paths if path.startswith("/data")]
    assert (names, [name for name in uses.untraced if name != "-c"]) == (paths, untraced)


def test_targets_of_redirections_and_copies_are_written() -> None:
    uses = analyze_commands("sort a > b; cp b c; touch d 2>&1; tee e < b", FOLDER)
    assert uses.written == ["/data/b", "/data/c", "/data/d", "/data/e"]
    assert uses.paths == ["/data/a", "/data/b", "/data/b"]


def test_listed_and_tested_paths_do_not_count_as_read() -> None:
    uses = analyze_commands("ls sub; test -f flag || [ -d x ]", FOLDER)
    assert uses.listed == ["/data/sub"]
    assert {"/data/flag", "/data/x"} <= set(uses.tested)
    assert uses.paths == []


def test_commands_of_a_shell_script_are_read(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("#!/bin/sh\ncat data.txt\nrsync a b\n")
    uses = analyze_program(["bash", "run.sh"], str(tmp_path))
    assert uses.paths == [str(tmp_path / "run.sh"), str(tmp_path / "data.txt")]
    assert uses.untraced == ["rsync"]


def test_python_is_followed_and_its_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("")
    (tmp_path / "tool").write_text("#!/usr/bin/env python3\n")
    uses = analyze_commands("python3 a.py --out folder && ./tool", str(tmp_path))
    assert uses.python_arguments == [["python3", "a.py", "--out", "folder"], ["./tool"]]
    assert uses.paths == [str(tmp_path / "a.py"), str(tmp_path / "tool")]
    assert uses.untraced == []
