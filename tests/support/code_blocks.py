"""The code blocks of a Markdown document, and how each is run.

A document may name the project in which its blocks run, in a comment at its top:
``<!-- project: diabetes -->``. The blocks run in order, in the project's folder:

``bash``
    As a script. Variables that it exports are set for the following blocks. Exit code 3 of a
    command (waiting for approval) is not a failure. RUN stands for the latest run, OLD_RUN for the
    first. Lines that are only commands of ``mlops`` run in this process, where kernels are forked
    from a server that is there already.
``python``
    In one namespace per document.
``yaml``
    Checked by the schema and the loader. A block of mlops.yaml with a name replaces the project's
    file; one without is laid over it.
``text``
    Not checked: diagrams and output.

A block whose first line is ``# path/of/file`` is written to that file; a Python block named
``.ipynb``, with cells that begin with ``# %%``, becomes a notebook.

A comment in front of a block changes this: ``<!-- background: URL -->`` starts the block and waits
until the address answers; ``<!-- not run: KIND, reason -->`` only checks its commands.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import nbformat
import yaml
from jsonschema import Draft202012Validator
from markdown_it import MarkdownIt
from nbformat import v4

from mlops_kit.cli import application
from mlops_kit.data import contract
from mlops_kit.project import config_schema, loader, run_folder
from tests.support.environment import ROOT, make_clean_environment

NOT_RUN_KINDS = {
    "demo": "takes minutes, or needs something that the test's project does not have",
    "install": "installs packages from an index",
    "foreground": "does not end by itself",
    "service": "needs a server that the test does not have",
}
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGES = {"bash", "python", "yaml", "text"}
BLOCK_TIMEOUT_SECONDS = 900
SUCCESS_CODES = (0, 3)  # 3: the run waits for approval
_SHELL_SYNTAX = re.compile(r"[|<>$&;*]|^export ", re.MULTILINE)
_COMMENT = re.compile(r"<!--\s*(project|background|not run):\s*(.*?)\s*-->", re.DOTALL)
_FILE_NAME = re.compile(r"# ([\w./-]+\.(?:yaml|py|ipynb|csv))\n")
_CELL = re.compile(r"^# %%(.*)$", re.MULTILINE)
# A command that waits for approval exits with 3, which is not a failure.
_BASH_HEAD = "set -Euo pipefail\ntrap 'code=$?; [ $code = 3 ] || exit $code' ERR\n"
_SCHEMA = Draft202012Validator(config_schema.build_config_schema())


class CodeBlock(NamedTuple):
    """A code block with the comment in front of it."""

    language: str
    text: str
    line: int
    marker: str = ""
    value: str = ""

    @property
    def not_run_kind(self) -> str:
        """The kind of a block that is not run, else empty."""
        return self.value.partition(",")[0].strip() if self.marker == "not run" else ""


class MarkdownDocument(NamedTuple):
    """The code blocks of a document and the name of its project."""

    path: Path
    project: str
    blocks: list[CodeBlock]


def read_document(path: Path) -> MarkdownDocument:
    """Read the code blocks of a Markdown file; directives of Sphinx are left out."""
    project = "empty"
    marker = value = ""
    blocks = []
    for token in MarkdownIt("commonmark").parse(path.read_text(encoding="utf-8")):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "html_block":
            for name, text in _COMMENT.findall(token.content):
                if name == "project":
                    project = text
                else:
                    marker, value = name, text
        elif token.type == "fence" and not token.info.startswith("{"):
            blocks.append(CodeBlock(token.info.strip(), token.content, line, marker, value))
            marker = value = ""
        elif token.type == "code_block":
            blocks.append(CodeBlock("", token.content, line))
    return MarkdownDocument(path, project, blocks)


def iterate_commands(block: CodeBlock) -> Iterator[list[str]]:
    """Yield the words of each simple command of a bash block."""
    text = block.text.replace("\\\n", " ")
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        command: list[str] = []
        for word in words:
            if word in {"|", "&&", "||", ";", "&"}:
                yield command
                command = []
            else:
                command.append(word)
        if command:
            yield command


class BlockRunner:
    """Runs the blocks of a document in a project."""

    def __init__(self, folder: Path, ports: dict[str, str]) -> None:
        self.folder = folder
        self.ports = ports
        self.environment = make_clean_environment()
        self.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.namespace: dict[str, Any] = {"__name__": "document"}
        self.processes: list[subprocess.Popen[bytes]] = []

    def run(self, block: CodeBlock) -> None:
        """Run a block; fails with an AssertionError or the error of the block."""
        file_name = _FILE_NAME.match(block.text)
        if block.language == "yaml":
            self.check_yaml(block, file_name[1] if file_name else "mlops.yaml")
        elif block.not_run_kind or block.language == "text":
            return
        elif file_name:
            self.write_file(file_name[1], block.text)
        elif block.language == "python":
            self.run_python(block)
        elif block.marker == "background":
            self.start_process(block)
        else:
            self.run_bash(block)

    def write_file(self, name: str, text: str) -> None:
        """Write a block to the file that its first line names."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != ".ipynb":
            path.write_text(text, encoding="utf-8")
            return
        notebook = v4.new_notebook(metadata={"kernelspec": KERNEL})
        parts = _CELL.split(text)
        for tag, source in zip(parts[1::2], parts[2::2], strict=True):
            cell = v4.new_code_cell(source.strip())
            if tag.strip():
                cell.metadata["tags"] = [tag.strip()]
            notebook.cells.append(cell)
        nbformat.write(notebook, path)

    def check_yaml(self, block: CodeBlock, name: str) -> None:
        """Check YAML by the schema and the loader, and write it unless the block is not run."""
        path = self.folder / name
        before = path.read_text(encoding="utf-8") if path.exists() else None
        text = block.text
        if name == "mlops.yaml":
            settings = yaml.load(text, loader.DateAsTextLoader)
            if "name" not in settings:
                assert before is not None, "settings without a project"
                settings = merge_settings(yaml.load(before, loader.DateAsTextLoader), settings)
                text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
            errors = [error.message for error in _SCHEMA.iter_errors(settings)]
            assert errors == []
        if block.not_run_kind == "demo":  # the folder lacks what these settings name
            return
        self.write_file(name, text)
        project = loader.load_project(self.folder)
        if name == project.config.contract.file:
            contract.load_contract(path)
        if block.not_run_kind and before is not None:
            path.write_text(before, encoding="utf-8")

    def run_python(self, block: CodeBlock) -> None:
        """Run Python code in the namespace of the document."""
        source = "\n" * block.line + self.fill_in(block.text)
        with contextlib.chdir(self.folder):
            exec(compile(source, "<document>", "exec"), self.namespace)

    def run_bash(self, block: CodeBlock) -> None:
        """Run a script, and keep the variables that it exports."""
        is_plain = not _SHELL_SYNTAX.search(block.text)
        commands = list(iterate_commands(block))
        if is_plain and all(words[0] == "mlops" for words in commands):
            for words in iterate_commands(block._replace(text=self.fill_in(block.text))):
                self.run_command(words)
        else:
            self.run_script(block)

    def run_command(self, words: list[str]) -> None:
        """Run a command of ``mlops`` in this process."""
        output = io.StringIO()
        code = 0
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, self.environment, clear=True),
            mock.patch.object(sys, "argv", words),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(output),
        ):
            try:
                application.main()
            except SystemExit as exited:
                code = int(exited.code or 0)
        assert code in SUCCESS_CODES, f"{shlex.join(words)}: exit code {code}:\n{output.getvalue()}"

    def run_script(self, block: CodeBlock) -> None:
        """Run a block by bash, and keep the variables that it exports."""
        variables = self.folder / ".exported"
        script = f"{_BASH_HEAD}{self.fill_in(block.text)}\nenv -0 > {shlex.quote(str(variables))}\n"
        completed = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=BLOCK_TIMEOUT_SECONDS,
            check=False,
        )
        output = completed.stdout + completed.stderr
        assert completed.returncode == 0, f"exit code {completed.returncode}:\n{output}"
        for item in variables.read_text().split("\0"):
            name, _, value = item.partition("=")
            if name and name not in {"_", "SHLVL", "PWD"}:
                self.environment[name] = value
        variables.unlink()

    def start_process(self, block: CodeBlock) -> None:
        """Start a server and wait until its address answers."""
        command = self.fill_in(block.text.partition("#")[0]).strip()
        log = (self.folder / ".server.log").open("wb")
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=self.folder,
            env=self.environment,
            stdout=log,
            stderr=log,
        )
        self.processes.append(process)
        wait_for_address(self.fill_in(block.value), process)

    def fill_in(self, text: str) -> str:
        """Replace RUN and OLD_RUN by the names of runs, and ports by free ones."""
        for port, free_port in self.ports.items():
            text = text.replace(port, free_port)
        if re.search(r"\b(OLD_)?RUN\b", text):
            runs = run_folder.list_run_folders(loader.load_project(self.folder).reports_folder)
            text = re.sub(r"\bOLD_RUN\b", runs[-1].name, text)
            text = re.sub(r"\bRUN\b", runs[0].name, text)
        return text

    def close(self) -> None:
        """End the processes that blocks have started."""
        for process in self.processes:
            process.terminate()
            process.wait(timeout=60)
        client = self.namespace.get("p")
        background_run = getattr(client, "process", None)
        if background_run is not None:
            background_run.wait(timeout=BLOCK_TIMEOUT_SECONDS)


def merge_settings(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Lay settings over others, section by section."""
    merged = dict(old)
    for name, value in new.items():
        is_section = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = merge_settings(merged[name], value) if is_section else value
    return merged


def wait_for_address(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until an address answers; fails if the process has ended."""
    end = time.monotonic() + BLOCK_TIMEOUT_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, f"the server ended with {process.returncode}"
        try:
            with urllib.request.urlopen(url, timeout=30):
                return
        except (urllib.error.URLError, OSError):
            try:
                process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                continue
    raise AssertionError(f"{url} did not answer")


def list_documents() -> list[Path]:
    """Return the Markdown files whose blocks are run."""
    return [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
