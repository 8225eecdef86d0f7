"""Every code block of the documentation runs; its commands exist; no link is broken."""

from __future__ import annotations

import functools
import itertools
import re
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer.main
from markdown_it import MarkdownIt

from mlops_kit.cli.application import app
from mlops_kit.pipeline import kernel_pool, preloaded_modules
from mlops_kit.project import loader
from tests.conftest import SampleTable, copy_project
from tests.support import code_blocks, watched_project
from tests.support.code_blocks import NOT_RUN_KINDS, BlockRunner, CodeBlock, iterate_commands
from tests.support.environment import ROOT

DOCUMENTS = [code_blocks.read_document(path) for path in code_blocks.list_documents()]
LINKED_DOCUMENTS = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")})
MAX_BLOCKS_NOT_RUN = 18  # of about a hundred
PORTS = ("8000", "8866")
# The diabetes project with settings that make a run short.
DIABETES = SampleTable(
    ("examples/diabetes/mlops.yaml", "examples/diabetes/contract.yaml"),
    {
        "train: {trials: 12}": "train: {trials: 2}\n"
        "review: {draws: 100}\n"
        "stages: {explore: {params: {profile_rows: 50}}}"
    },
)
GENERATED = "-reference}"  # a directive whose headings Sphinx checks


def get_name(path: Path) -> str:
    """Return the path of a document in the repository."""
    return path.relative_to(ROOT).as_posix()


def list_free_ports() -> dict[str, str]:
    """Return a free port for each port that the documentation names."""
    ports = {}
    for port in PORTS:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            ports[port] = str(listener.getsockname()[1])
    return ports


@pytest.fixture(scope="session")
def fork_server() -> Iterator[None]:
    """Keep a fork server that has imported what the seven notebooks need."""
    project = loader.load_project(ROOT / "examples" / "diabetes")
    modules = preloaded_modules.list_modules_to_preload(project, project.config.stages)
    kernel_pool.get_fork_server(modules)
    kernel_pool.keep_fork_server = True
    yield
    kernel_pool.keep_fork_server = False
    kernel_pool.release_fork_server()


@pytest.fixture(scope="session")
def finished_project(fork_server: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The diabetes project after a run; its version is the champion."""
    home = copy_project(tmp_path_factory.mktemp("documentation") / "home", DIABETES)
    runner = BlockRunner(home, {})
    runner.run(CodeBlock("bash", "mlops run --note first", 0))
    return home


def write_houses(home: Path) -> None:
    """Write a small table with the column ``price``."""
    home.mkdir()
    random = np.random.default_rng(0)
    houses = pd.DataFrame(
        {
            "listing": np.arange(300),
            "area": random.normal(120, 30, 300).round(1),
            "rooms": random.integers(2, 8, 300),
        }
    )
    houses["price"] = 2 * houses["area"] + 10 * houses["rooms"] + random.normal(0, 20, 300)
    houses.to_csv(home / "data.csv", index=False)


@pytest.fixture
def make_project(
    fork_server: None, request: pytest.FixtureRequest, tmp_path: Path
) -> Callable[[str], Path]:
    """Make the project that a document names."""

    def make(name: str) -> Path:
        home = tmp_path / "home"
        if name == "empty":
            home.mkdir()
        elif name == "diabetes":
            shutil.copytree(request.getfixturevalue("finished_project"), home)
        elif name == "houses":
            write_houses(home)
        elif name == "watched":
            watched_project.build_project(home)
        else:
            raise ValueError(
                f"unknown project {name!r}; expected empty, houses, diabetes or watched"
            )
        return home

    return make


@pytest.mark.documentation
@pytest.mark.parametrize(
    "document",
    [document for document in DOCUMENTS if document.blocks],
    ids=lambda document: get_name(document.path),
)
def test_code_blocks_run(
    document: code_blocks.MarkdownDocument,
    make_project: Callable[[str], Path],
) -> None:
    home = make_project(document.project)
    runner = BlockRunner(home, list_free_ports())
    try:
        for block in document.blocks:
            place = f"{get_name(document.path)}:{block.line}"
            try:
                runner.run(block)
            except Exception as error:
                raise AssertionError(f"{place}: {error}") from error
    finally:
        runner.close()


def iterate_blocks() -> Iterator[tuple[str, CodeBlock]]:
    """Yield all blocks with their places."""
    for document in DOCUMENTS:
        for block in document.blocks:
            yield f"{get_name(document.path)}:{block.line}", block


def test_every_block_has_a_known_language() -> None:
    unknown = [
        f"{place} {block.language!r}"
        for place, block in iterate_blocks()
        if block.language not in code_blocks.LANGUAGES
    ]
    assert unknown == []


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    kinds: Counter[str] = Counter()
    for place, block in iterate_blocks():
        if not block.not_run_kind:
            continue
        assert block.not_run_kind in NOT_RUN_KINDS, place
        reason = block.value.partition(",")[2].strip()
        assert len(reason.split()) > 2, f"{place} has no reason"
        kinds[block.not_run_kind] += 1
    assert kinds.total() <= MAX_BLOCKS_NOT_RUN, dict(kinds)


@functools.cache
def list_options() -> dict[str, set[str]]:
    """Return the options of each command."""
    group: Any = typer.main.get_command(app)
    options = {}
    for name, command in group.commands.items():
        # The options of a group are those of its commands.
        commands = getattr(command, "commands", {"": command}).values()
        parameters = [parameter for one in commands for parameter in one.params]
        options[name] = {"--help", "--debug"}
        for parameter in parameters:
            options[name] |= {*parameter.opts, *parameter.secondary_opts}
    return options


@functools.cache
def list_make_targets() -> set[str]:
    """Return the targets of the Makefile."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return {*targets, ".venv/.installed"}  # the environment, $(STAMP) in the Makefile


def describe_mistake(words: list[str]) -> str:
    """Return what is wrong with a command of ours, else empty."""
    program = Path(words[0]).name if words else ""
    if program == "make":
        unknown = [word for word in words[1:] if word not in list_make_targets()]
        return f"no target {unknown}" if unknown else ""
    if program != "mlops" or len(words) == 1 or words[1].startswith("-"):
        return ""
    command, *arguments = words[1:]
    if command not in list_options():
        return f"no command {command!r}"
    if "--" in arguments:
        arguments = arguments[: arguments.index("--")]
    options = {word.partition("=")[0] for word in arguments if re.match(r"--?[a-z]", word)}
    unknown_options = sorted(options - list_options()[command])
    return f"no option {unknown_options}" if unknown_options else ""


def test_every_command_in_a_block_exists() -> None:
    mistakes = []
    for place, block in iterate_blocks():
        if block.language != "bash":
            continue
        for words in iterate_commands(block):
            mistake = describe_mistake(words)
            if mistake:
                mistakes.append(f"{place} {' '.join(words)}: {mistake}")
    assert mistakes == []


def iterate_inline_code(path: Path) -> Iterator[str]:
    """Yield the inline code of a document."""
    for token in MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8")):
        for child in token.children or []:
            if child.type == "code_inline":
                yield child.content


@pytest.mark.parametrize("path", LINKED_DOCUMENTS, ids=get_name)
def test_every_command_in_the_text_exists(path: Path) -> None:
    mistakes = []
    for code in iterate_inline_code(path):
        words = code.split()
        is_command = words and words[0] in {"mlops", "make"} and "COMMAND" not in code
        if is_command and describe_mistake(words):
            mistakes.append(f"{code}: {describe_mistake(words)}")
    assert mistakes == []


@functools.cache
def list_anchors(path: Path) -> set[str]:
    """Return the anchors of the headings of a Markdown file, as GitHub makes them."""
    tokens = MarkdownIt("commonmark").parse(path.read_text(encoding="utf-8"))
    anchors = set()
    for token, following in itertools.pairwise(tokens):
        if token.type == "heading_open":
            text = "".join(child.content for child in following.children or [])
            anchors.add(re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-"))
    return anchors


def iterate_links(path: Path) -> Iterator[str]:
    """Yield the targets of links and images of a Markdown file."""
    for token in MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8")):
        for child in token.children or []:
            target = child.attrs.get("href") or child.attrs.get("src")
            if target:
                yield str(target)


def is_broken(path: Path, link: str) -> bool:
    """Return whether a relative link leads nowhere."""
    if re.match(r"[a-z]+:", link):
        return False
    file_name, _, anchor = link.partition("#")
    target = (path.parent / file_name).resolve() if file_name else path
    if not target.exists() or not target.is_relative_to(ROOT):
        return True
    if not anchor or target.suffix != ".md":
        return False
    return GENERATED not in target.read_text(encoding="utf-8") and anchor not in list_anchors(
        target
    )


@pytest.mark.parametrize("path", LINKED_DOCUMENTS, ids=get_name)
def test_no_link_is_broken(path: Path) -> None:
    assert [link for link in iterate_links(path) if is_broken(path, link)] == []


def list_chains(name: str) -> list[str]:
    """Return the settings of the chain ``counts`` that a document shows."""
    texts = []
    for document in DOCUMENTS:
        if get_name(document.path) == name:
            texts += [block.text.removeprefix("# mlops.yaml\n") for block in document.blocks]
    return [text for text in texts if text.startswith("name: counts\n")]


def test_chain_of_the_readme_is_the_one_that_runs() -> None:
    # The guide has the notebooks of this chain, and its code blocks run.
    assert list_chains("README.md") == list_chains("docs/how-to/own-chain.md")
    assert len(list_chains("README.md")) == 1


def test_links_are_found() -> None:
    links = [link for path in LINKED_DOCUMENTS for link in iterate_links(path)]
    assert len(links) > 20
    assert is_broken(ROOT / "README.md", "docs/nothing.md")
    assert is_broken(ROOT / "README.md", "docs/glossary.md#nothing")
    assert not is_broken(ROOT / "README.md", "docs/glossary.md#phrases")
