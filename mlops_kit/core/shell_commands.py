"""Read from the text of a shell command or script what it runs, reads and writes.

Programs that only use the files they are given are listed in ``_FILE_PROGRAMS``; Python is followed
(``process_tracer``); of any other program only its name is known, and that it cannot be followed.

>>> uses = analyze_commands("curl -s example.org > page.html; wc -l *.csv", "/data")
>>> uses.untraced, uses.written
(['curl'], ['/data/page.html'])
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path

SHELLS = {"sh", "bash", "dash", "zsh", "ksh"}
_PREFIXES = {
    "if",
    "then",
    "else",
    "elif",
    "do",
    "while",
    "until",
    "!",
    "{",
    "}",
    "time",
    "exec",
    "command",
    "builtin",
    "nohup",
    "nice",
    "env",
    "eval",
    "xargs",
}
_NO_COMMANDS = {"fi", "done", "esac", "case", "function", "select"}
# They list names; what the files contain does not matter.
_LISTING_PROGRAMS = {"ls", "find", "du", "stat", "basename", "dirname", "realpath", "readlink"}
_TEST_PROGRAMS = {"test", "[", "[["}
_WRITING_PROGRAMS = {"tee", "touch", "mkdir", "rm", "rmdir", "truncate", "mktemp"}
_TEXT_PROGRAMS = {"echo", "printf"}  # their arguments are not files
_COPYING_PROGRAMS = {"cp", "mv", "ln", "install"}
_TEXT_TOOLS = {
    "cat",
    "head",
    "tail",
    "wc",
    "sort",
    "uniq",
    "cut",
    "tr",
    "paste",
    "join",
    "comm",
    "nl",
    "grep",
    "egrep",
    "fgrep",
    "zgrep",
    "sed",
    "awk",
    "gawk",
    "mawk",
    "diff",
    "cmp",
    "split",
    "md5sum",
    "sha1sum",
    "sha256sum",
    "cksum",
    "od",
    "xxd",
    "strings",
    "file",
    "jq",
    "column",
    "rev",
    "tac",
    "shuf",
    "fold",
    "fmt",
    "expand",
    "numfmt",
}
_ARCHIVE_TOOLS = {
    "gzip",
    "gunzip",
    "zcat",
    "bzip2",
    "bunzip2",
    "xz",
    "unxz",
    "zstd",
    "tar",
    "zip",
    "unzip",
}
_SHELL_BUILTINS = {
    "true",
    "false",
    ":",
    "read",
    "shift",
    "set",
    "unset",
    "export",
    "local",
    "declare",
    "return",
    "exit",
    "break",
    "continue",
    "trap",
    "wait",
    "kill",
    "umask",
    "ulimit",
    "pwd",
    "type",
}
_SYSTEM_TOOLS = {
    "sleep",
    "date",
    "uname",
    "hostname",
    "whoami",
    "id",
    "nproc",
    "which",
    "seq",
    "yes",
    "chmod",
    "chown",
    "sync",
}
# What libraries ask about the machine.
_MACHINE_QUERIES = {
    "lscpu",
    "ldconfig",
    "gcc",
    "cc",
    "ld",
    "objdump",
    "fc-list",
    "getconf",
    "free",
    "df",
    "ps",
}
_FILE_PROGRAMS = _TEXT_TOOLS | _ARCHIVE_TOOLS | _SHELL_BUILTINS | _SYSTEM_TOOLS | _MACHINE_QUERIES
_PYTHON_PROGRAM = re.compile(r"(python|ipython|pypy)[\d.]*")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_VARIABLE = re.compile(r"\$(\w+|\{\w+\})")
_SUBSTITUTION = re.compile(r"\$\((.*)\)", re.DOTALL)
# A quoted or escaped text, in which "#" is a character like others, or a comment.
_QUOTE_OR_COMMENT = re.compile(
    r"""('[^']*'|"(?:\\.|[^"\\])*"|\\.)|(?:^|(?<=[\s;|&()]))#[^\n]*""", re.DOTALL | re.MULTILINE
)
_HERE_DOCUMENT = re.compile(r"<<-?\s*(['\"]?)(\w+)\1([^\n]*)\n.*?\n\s*\2\s*(?=\n|$)", re.DOTALL)
_SUBSTITUTION_SIGN = "$"  # what is left of $(command), whose output is not known
_SEPARATORS = set("();|&\n")
_REDIRECTIONS = set("<>")
_MAX_DEPTH = 4  # of scripts that run scripts
_MAX_SHEBANG_CHARACTERS = 200
_MAX_SCRIPT_CHARACTERS = 1_000_000


@dataclass
class ShellUses:
    """What a shell command uses.

    Attributes
    ----------
    paths : list of str
        Files, folders and patterns whose content it uses.
    listed : list of str
        Folders and patterns of which it uses the names.
    tested : list of str
        Paths that it asks about.
    written : list of str
        Files that it writes.
    untraced : list of str
        Programs that cannot be followed.
    python_arguments : list of list of str
        The arguments of each Python process that it starts.
    """

    paths: list[str] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)
    tested: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    untraced: list[str] = field(default_factory=list)
    python_arguments: list[list[str]] = field(default_factory=list)


def analyze_commands(text: str, folder: str) -> ShellUses:
    """Return what the commands of a text use.

    Parameters
    ----------
    folder : str
        The working folder in which they run.
    """
    reader = _CommandReader(folder)
    reader.read_text(text)
    return reader.uses


def analyze_program(arguments: list[str], folder: str) -> ShellUses:
    """Return what a program uses that is started with arguments, the program's name first."""
    reader = _CommandReader(folder)
    reader.read_command(arguments)
    return reader.uses


class _CommandReader:
    """Reads commands one after the other and collects what they use."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.uses = ShellUses()
        self.variables: dict[str, str | None] = {}  # None: the value is not known
        self.loop_variables: set[str] = set()
        self.functions: set[str] = set()
        self.depth = 0

    def read_text(self, text: str) -> None:
        """Read the commands of a text."""
        text = _HERE_DOCUMENT.sub(r"\3\n", text)
        text = _QUOTE_OR_COMMENT.sub(lambda match: match[1] or "", text)
        text = text.replace("\\\n", " ").replace("`", "\n")
        self.functions.update(re.findall(r"(?m)^\s*(?:function\s+)?(\w+)\s*\(\)", text))
        lexer = shlex.shlex(text, posix=True, punctuation_chars="();<>|&\n")
        lexer.whitespace = " \t\r"
        lexer.whitespace_split = True
        lexer.commenters = ""
        try:
            tokens = list(lexer)
        except ValueError:  # quotes that are not closed
            self.uses.untraced.append("sh")
            return
        self._read_tokens(tokens)

    def _read_tokens(self, tokens: list[str]) -> None:
        words: list[str] = []
        redirection = ""
        for token in tokens:
            characters = set(token)
            is_operator = bool(token) and characters <= _SEPARATORS | _REDIRECTIONS
            if is_operator and characters & _REDIRECTIONS:
                redirection = token
                if words and words[-1].isdigit():  # a descriptor, as in 2>&1
                    words.pop()
            elif is_operator:
                self.read_command(words)
                words, redirection = [], ""
            elif redirection:
                self._read_redirection(redirection, token)
                redirection = ""
            else:
                words.append(token)
        self.read_command(words)

    def _read_redirection(self, operator: str, word: str) -> None:
        path = self._expand(word)
        if word.isdigit() or path is None:
            return
        if "<<<" in operator:
            return
        target = self.uses.written if ">" in operator else self.uses.paths
        target.append(self._resolve(path))

    def read_command(self, words: list[str]) -> None:
        """Read one command: a program and its arguments."""
        for word in words:
            inner_commands = _SUBSTITUTION.search(word)
            if inner_commands:
                self._read_inner_text(inner_commands[1])
        words = self._skip_prefixes(words)
        if not words:
            return
        if words[0] == "for":
            self.loop_variables.update(words[1:2])
            self._use_paths(words[3:], self.uses.paths)
            return
        program = self._expand(words[0])
        if program is None:
            self.uses.untraced.append(words[0])
            return
        self._read_program(program, words[1:])

    def _skip_prefixes(self, words: list[str]) -> list[str]:
        """Skip what stands before the program: keywords, assignments, options of a prefix."""
        position = 0
        while position < len(words):
            word = words[position]
            assignment = _ASSIGNMENT.fullmatch(word)
            if assignment:
                is_known = not assignment[2].endswith(_SUBSTITUTION_SIGN)
                self.variables[assignment[1]] = self._expand(assignment[2]) if is_known else None
            elif word in _NO_COMMANDS:
                return []
            elif word not in _PREFIXES:
                break
            position += 1
            is_prefix = word in _PREFIXES
            while is_prefix and position < len(words) and words[position].startswith("-"):
                position += 1
        return words[position:]

    def _read_program(self, program: str, arguments: list[str]) -> None:
        name = os.path.basename(program)
        if name == "cd":
            target = self._expand(arguments[0]) if arguments else None
            if target is not None:
                self.folder = self._resolve(target)
        elif name in {"source", "."} and arguments:
            self._read_script(arguments[0])
        elif name in SHELLS:
            self._read_shell(arguments)
        elif _PYTHON_PROGRAM.fullmatch(name):
            self.uses.python_arguments.append([program, *arguments])
            self._use_files(arguments)
        else:
            self._read_program_with_files(program, name, arguments)

    def _read_program_with_files(
        self,
        program: str,
        name: str,
        arguments: list[str],
    ) -> None:
        """Read a program that neither is a shell nor runs Python code."""
        if name in _TEXT_PROGRAMS:
            return
        if name in _TEST_PROGRAMS:
            self._use_paths(arguments, self.uses.tested)
        elif name in _LISTING_PROGRAMS:
            self._read_listing(name, arguments)
        elif name in _WRITING_PROGRAMS:
            self._use_paths(arguments, self.uses.written)
        elif name in _COPYING_PROGRAMS:
            self._use_paths(arguments[:-1], self.uses.paths)
            self._use_paths(arguments[-1:], self.uses.written)
        elif name in _FILE_PROGRAMS or name in self.functions:
            self._use_paths(arguments, self.uses.paths)
        else:
            self._read_other_program(program, name, arguments)

    def _read_listing(self, name: str, arguments: list[str]) -> None:
        if name == "find":
            self._read_find(arguments)
            return
        names = [word for word in arguments if not word.startswith("-")]
        self._use_paths(names or ["."], self.uses.listed)

    def _read_find(self, arguments: list[str]) -> None:
        """Read ``find FOLDER … -exec PROGRAM …``."""
        folders = []
        for word in arguments:
            if word.startswith(("-", "(", "!")):
                break
            folders.append(os.path.join(word, "**"))
        self._use_paths(folders or ["**"], self.uses.listed)
        for position, word in enumerate(arguments):
            if word in {"-exec", "-execdir", "-ok"}:
                self.read_command(arguments[position + 1 :])
                self._use_paths(folders or ["**"], self.uses.paths)

    def _read_shell(self, arguments: list[str]) -> None:
        for position, word in enumerate(arguments):
            if word.startswith("-") and word.endswith("c"):
                self._read_inner_text(" ".join(arguments[position + 1 : position + 2]))
                return
            if not word.startswith("-"):
                self._read_script(word)
                return

    def _read_script(self, word: str) -> None:
        """Read the commands of a shell script."""
        path = self._expand(word)
        if path is None:
            self.uses.untraced.append(word)
            return
        script = self._resolve(path)
        self.uses.paths.append(script)
        if os.path.isfile(script):
            text = Path(script).read_text(encoding="utf-8", errors="replace")
            self._read_inner_text(text[:_MAX_SCRIPT_CHARACTERS])

    def _read_inner_text(self, text: str) -> None:
        if self.depth >= _MAX_DEPTH:
            self.uses.untraced.append("sh")
            return
        self.depth += 1
        folder = self.folder
        self.read_text(text)
        self.folder = folder
        self.depth -= 1

    def _read_other_program(
        self,
        program: str,
        name: str,
        arguments: list[str],
    ) -> None:
        """Read a program that is not known: it may be a script."""
        path = self._resolve(program) if os.sep in program else shutil.which(program)
        interpreter = _read_shebang(path) if path else ""
        if interpreter in SHELLS and path is not None:
            self._read_script(path)
        elif _PYTHON_PROGRAM.fullmatch(interpreter):
            self.uses.python_arguments.append([program, *arguments])
        else:
            self.uses.untraced.append(name)
        if path is not None:
            self.uses.paths.append(path)
        self._use_files(arguments)

    def _use_files(self, words: list[str]) -> None:
        """Record the words that are existing files."""
        for word in words:
            path = self._expand(word.rpartition("=")[2])
            if path and "\0" not in path and os.path.isfile(self._resolve(path)):
                self.uses.paths.append(self._resolve(path))

    def _use_paths(self, words: list[str], target: list[str]) -> None:
        """Record the words that are paths; a word that cannot be expanded cannot be followed."""
        for word in words:
            if word.startswith("-"):
                _, separator, word = word.partition("=")
                if not separator:
                    continue
            path = self._expand(word)
            if path is None or word == _SUBSTITUTION_SIGN:
                self.uses.untraced.append(f"{word}(…)" if path else word)
            elif path and "\0" not in path:
                target.append(self._resolve(path))

    def _expand(self, word: str) -> str | None:
        """Replace variables; None if the value of one is not known, empty for one of a loop."""
        if "$(" in word:
            return None
        values: dict[str, str] = {}
        for match in _VARIABLE.finditer(word):
            name = match[1].strip("{}")
            if name in self.loop_variables or name.isdigit():
                return ""
            value = self.variables.get(name, os.environ.get(name))
            if value is None:
                return None
            values[match[0]] = value
        return os.path.expanduser(_VARIABLE.sub(lambda match: values[match[0]], word))

    def _resolve(self, path: str) -> str:
        return os.path.normpath(os.path.join(self.folder, path))


def _read_shebang(path: str) -> str:
    """Return the name of the interpreter of a script; empty for another file."""
    try:
        with open(path, "rb") as file:
            line = file.readline(_MAX_SHEBANG_CHARACTERS)
    except OSError:
        return ""
    if not line.startswith(b"#!"):
        return ""
    words = line[2:].decode("utf-8", errors="replace").split()
    if words and os.path.basename(words[0]) == "env":
        words = [word for word in words[1:] if not word.startswith("-")]
    return os.path.basename(words[0]) if words else ""
