"""README and docs: their commands and Python run, and every option, name, path and link exists."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import io
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import mfer_edge
from mfer_edge import samples
from mfer_edge.cli.main import main
from tests.support.documents import Block, blocks, commands, inline_code, prose
from tests.support.paths import ROOT

GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", samples.ANGER.with_name("README.md")]
GUIDES += sorted((ROOT / "docs").glob("*.md"))
LINKED = [*GUIDES, ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", ROOT / "LICENSE-WEIGHTS.md"]
LINKED += [ROOT / "benchmarks" / "results" / "README.md", ROOT / "export" / "assets" / "README.md"]

CLIPS = {
    "clip.mp4": samples.ANGER,
    "talk.mp4": samples.FEAR,
    "meeting.mp4": samples.FEAR,
    "monday.mp4": samples.FEAR,
    "tuesday.mp4": samples.ANGER,
    "recordings/one.mp4": samples.ANGER,
}
"""Names of clips in the documents, and the samples that they stand for."""

LANGUAGES = ("sh", "python", "json", "text")
OUR_PATH = re.compile(r"(mfer_edge|export|train|benchmarks|tests|docs)/[\w./*-]*")
OUR_NAME = re.compile(r"(mfer_edge|export|train|benchmarks|tests)(\.\w+)+")
VARIES = (
    (r"\d+", r"\\d+"),
    (r"(\\ )+", r"\\s+"),
    (r"(\\#)+", "#*"),  # a bar
    ("threads", "threads?"),
    ("cpu", r"\\w+"),  # the device
)
"""What differs from run to run and from machine to machine in an escaped line of output."""

COMMON_PROGRAMS = ("cp", "mkdir")  # run as they are
OTHER_PROGRAMS = ("curl", "find", "jq", "mypy", "ruff")  # neither run nor checked


def check_command(words: Sequence[str]) -> None:
    """Fail where a command names an option, a subcommand, a module, a file that does not exist."""
    program, *arguments = words
    program = Path(program).name
    for word in arguments:
        check_path(word)
    if program == "mfer-edge":
        check_cli(arguments)
    elif program == "python":
        assert arguments[0] == "-m", f"{words}: runs no module"
        module, *rest = arguments[1:]
        check_cli(rest) if module == "mfer_edge" else check_module(module, rest)
    elif program == "pip":
        check_requirement(arguments)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(arguments) <= set(targets), f"{words}: no such target"
    else:
        assert program in COMMON_PROGRAMS + OTHER_PROGRAMS, f"{words}: an unknown program"


def check_cli(arguments: Sequence[str]) -> None:
    """Parse arguments as the command line does, without looking for the files."""
    command: click.Command = main
    context = click.Context(main, info_name="mfer-edge")
    rest = list(arguments)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(context, rest[0])
        assert found, f"mfer-edge has no command {rest[0]}"
        command, context = found, click.Context(found, context, info_name=rest.pop(0))
    try:
        values, _, _ = command.make_parser(context).parse_args(rest)
        for param in command.params:
            if isinstance(param.type, click.Choice | click.types.IntParamType):
                given = values.get(param.name or "")
                for value in given if isinstance(given, list) else [given]:
                    if isinstance(value, str):
                        param.type.convert(value, param, context)
    except click.UsageError as error:
        pytest.fail(f"{context.command_path}: {error.format_message()}")


def check_module(module: str, arguments: Sequence[str]) -> None:
    assert importlib.util.find_spec(module), f"no module {module}"
    options = {word for word in arguments if word.startswith("--")}
    if options and OUR_NAME.fullmatch(module):
        known = set(re.findall(r"--[a-z][\w-]*", module_help(module)))
        assert options <= known, f"{module} has no option {', '.join(options - known)}"


@functools.cache
def module_help(module: str) -> str:
    text, before = io.StringIO(), sys.argv
    sys.argv = [module, "--help"]
    try:
        with contextlib.redirect_stdout(text), pytest.raises(SystemExit) as ended:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        sys.argv = before
    assert not ended.value.code
    return text.getvalue()


def check_requirement(arguments: Sequence[str]) -> None:
    known = importlib.metadata.metadata("mfer-edge").get_all("Provides-Extra") or []
    for word in arguments:
        if match := re.fullmatch(r"(?:mfer-edge|\.)\[(.+)\]", word):
            extras = set(match[1].split(","))
            assert extras <= set(known), f"{word}: no such extra"


def check_path(word: str) -> None:
    """Fail where a path into this project leads nowhere."""
    if OUR_PATH.fullmatch(word):
        assert list(ROOT.glob(word.rstrip("/"))), f"{word}: not there"


def check_name(name: str) -> None:
    """Fail where a dotted name is neither a module nor something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        with contextlib.suppress(ModuleNotFoundError):
            if importlib.util.find_spec(module):
                if length < len(parts):
                    check_attributes(importlib.import_module(module), parts[length:])
                return
    pytest.fail(f"{name}: not there")


def check_attributes(owner: Any, parts: Sequence[str]) -> None:
    for part in parts:
        fields = getattr(owner, "__dataclass_fields__", {})
        assert hasattr(owner, part) or part in fields, f"{owner} has no {part}"
        owner = getattr(owner, part, None)


def check_imports(block: Block) -> None:
    """Check what a block imports; of one that is not run, what it imports of ours."""
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                check_import(alias.name, block)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                check_import(f"{node.module}.{alias.name}", block)


def check_import(name: str, block: Block) -> None:
    if block.runs or OUR_NAME.fullmatch(name):
        check_name(name)


@functools.cache
def all_options(command: click.Command = main) -> frozenset[str]:
    """List every option of a command and of those below it."""
    found = {opt for param in command.params for opt in param.opts} | {"--help", "--version"}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below
            found |= all_options(below)
    return frozenset(found)


class Runner:
    """Runs a document's blocks, one after the other, in one folder and one Python namespace."""

    def __init__(self, folder: Path) -> None:
        for name, sample in CLIPS.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).symlink_to(sample)
        (folder / "mfer_edge").mkdir()
        (folder / "mfer_edge" / "samples").symlink_to(samples.ANGER.parent)
        (folder / "my-bundle").symlink_to(ROOT / "mfer_edge" / "models" / "compact")
        self._folder = folder
        self._names: dict[str, Any] = {"__name__": "document"}
        self._output = ""  # of the latest command
        self._json: Path | None = None  # that it wrote

    def run(self, block: Block) -> None:
        if block.language == "python":
            code = "\n" * (block.line - 1) + block.text  # so that tracebacks name the line
            exec(compile(code, str(block.document), "exec"), self._names)
        elif block.language == "sh":
            for words, reads in commands(block.text):
                if not reads:
                    self._run_command(words)
        elif block.language == "text":
            check_output(block.text, self._output)
        elif block.language == "json":
            assert self._json, "no command before it writes JSON"
            check_same_fields(json.loads(block.text), json.loads(self._json.read_text()))

    def _run_command(self, words: list[str]) -> None:
        program = Path(words[0]).name
        if program == "mfer-edge":
            arguments = [path for word in words[1:] for path in self._expanded(word)]
            result = CliRunner().invoke(main, arguments, catch_exceptions=False)
            assert result.exit_code == 0, result.output
            self._output = result.output
            if "--json" in arguments:
                self._json = self._folder / arguments[arguments.index("--json") + 1]
        elif program == "python":
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            subprocess.run([sys.executable, *words[1:]], check=True, env=environment)
        elif program in COMMON_PROGRAMS:
            subprocess.run(words, check=True)

    def _expanded(self, word: str) -> list[str]:
        if "*" not in word:
            return [word]
        return sorted(str(path.relative_to(self._folder)) for path in self._folder.glob(word))


def check_output(expected: str, output: str) -> None:
    """Find expected lines in an output, in order; numbers and the device may differ."""
    lines = iter(output.splitlines())
    for line in expected.splitlines():
        if line.strip() and line.strip() != "...":
            pattern = re.escape(line)
            for varies, any_value in VARIES:
                pattern = re.sub(varies, any_value, pattern)
            assert any(re.fullmatch(pattern, real) for real in lines), f"not printed: {line}"


def check_same_fields(shown: Any, real: Any, name: str = "") -> None:
    """Compare a documented JSON with a real one: the same fields, of the same kinds."""
    if isinstance(real, dict):
        open_ended = all(isinstance(value, float) for value in real.values())
        assert shown.keys() <= real.keys() if open_ended else shown.keys() == real.keys(), name
        for key, value in shown.items():
            check_same_fields(value, real[key], f"{name}.{key}")
    elif isinstance(real, list):
        assert isinstance(shown, list), name
        for value in shown:
            check_same_fields(value, real[0], f"{name}[]")
    else:
        assert isinstance(shown, type(real)), name


def named(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.mark.parametrize("document", GUIDES, ids=named)
def test_what_a_document_shows_runs(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runner = Runner(tmp_path)
    before: Block | None = None
    for block in blocks(document):
        with placed(block):
            if block.runs and (block.language != "text" or block.follows(before)):
                runner.run(block)
        before = block if block.runs else None


@pytest.mark.parametrize("document", GUIDES, ids=named)
def test_options_names_and_paths_exist(document: Path) -> None:
    for block in blocks(document):
        with placed(block):
            assert block.language in LANGUAGES, f"a block of {block.language or 'no language'}"
            if block.language == "sh":
                for words, _ in commands(block.text):
                    check_command(words)
            elif block.language == "python":
                check_imports(block)
            else:
                assert not re.search(r"^(mfer-edge|python) ", block.text, re.MULTILINE)
    for code in inline_code(document):
        check_code(code)


def check_code(code: str) -> None:
    """Check what stands in a text between backquotes, if it is a name of ours."""
    first = code.split()[0]
    if first == "mfer-edge" or code.startswith("python -m "):
        for words, _ in commands(code):
            check_command(words)
    elif first.startswith("--"):
        assert first in all_options(), f"{code}: no such option"
    elif OUR_PATH.fullmatch(code):
        check_path(code)
    elif OUR_NAME.fullmatch(code) and not code.endswith((".md", ".py")):
        check_name(code)
    elif code.endswith((".py", "/")):
        assert list((ROOT / "mfer_edge").glob(code)) or list(ROOT.glob(code)), f"{code}: not there"
    elif (parts := re.sub(r"\(.*\)", "", code).split("."))[0] in mfer_edge.__all__:
        check_attributes(mfer_edge, parts)


@pytest.mark.parametrize("document", LINKED, ids=named)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            there = document.parent / path if path else document
            assert there.exists(), f"{target}: not there"
            if anchor:
                headings = re.findall(r"^#+ (.+)$", prose(there), re.MULTILINE)
                assert anchor in [slug(heading) for heading in headings], f"{target}: no heading"


def slug(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize(
    "command",
    [
        "mfer-edge infer clip.mp4 --nope",
        "mfer-edge infer clip.mp4 --faces some",
        "mfer-edge nope",
        "mfer-edge train nope",
        "python -m benchmarks.cpu.nope",
        "python -m benchmarks.cpu.compare --nope",
        "python -m pytest tests/nope",
        "pip install 'mfer-edge[nope]'",
        "make nope",
        "nope",
    ],
)
def test_a_command_that_would_fail_is_found(command: str) -> None:
    ((words, _),) = commands(command)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_command(words)


def test_an_output_that_differs_is_found() -> None:
    printed = "clip.mp4  4.14 s\n  angry (face + voice)\n  calm  3% #\n\n  1 thread: 0.36 s\n"
    check_output("clip.mp4  4.1 s\n  ...\n  calm  12% ###\n  2 threads: 0.12 s", printed)
    for other in ("  sad (face + voice)", "  calm  3%\n  angry (face + voice)", "  none"):
        with pytest.raises(AssertionError):
            check_output(other, printed)


@contextlib.contextmanager
def placed(block: Block) -> Iterator[None]:
    """Name the block in what fails within."""
    try:
        yield
    except (Exception, pytest.fail.Exception) as error:
        if hasattr(error, "add_note"):  # from Python 3.11 on
            error.add_note(block.place)
        raise
