"""The group `mfer-edge`: version, help, and what a start imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mfer_edge import __version__
from mfer_edge.cli.main import COMMANDS, load_command
from tests.support.commands import passed, python, run

HEAVY = {"numpy", "onnxruntime", "cv2", "av", "torch"}
NEEDLESS = (
    *("asyncio", "csv", "email", "http", "importlib.metadata", "mimetypes", "multiprocessing"),
    *("random", "secrets", "socket", "ssl", "subprocess", "tempfile", "unicodedata"),
    *("urllib.request", "xml", "zipfile"),
    *(
        f"mfer_edge.{name}"
        for name in ("batch", "bench", "evaluation", "isolation", "live", "serve")
    ),
    *(f"mfer_edge.{name}" for name in ("doctor", "install", "samples")),
    *(f"mfer_edge.engines.{name}" for name in ("tensorrt", "tensorrt_target", "triton")),
    *(f"mfer_edge.outputs.{name}" for name in ("canvas", "csv", "files", "frame", "html", "json")),
    *(f"mfer_edge.outputs.{name}" for name in ("overlay", "people", "results", "soundtrack")),
    *(f"mfer_edge.outputs.{name}" for name in ("temporary", "timeline", "video", "webvtt")),
    *("mfer_edge.sources.replay", "mfer_edge.sources.stdin"),
)
"""Modules and packages that `infer`, without outputs, has no use for."""
OF_EXTRAS = (
    *("anyio", "h11", "prometheus_client", "python_multipart", "starlette", "uvicorn"),
    *("websockets", "pyarrow", "ray", "pandas", "torch", "onnx", "onnxscript", "safetensors"),
    *("huggingface_hub", "matplotlib", "sklearn", "scipy"),
)
"""Modules that the lean runtime does without."""


class TestProgram:
    def test_version(self) -> None:
        assert passed(run("--version")) == f"mfer-edge, version {__version__}\n"

    def test_module_and_script(self) -> None:
        script = Path(sys.executable).with_name("mfer-edge")
        for command in ([sys.executable, "-m", "mfer_edge"], [str(script)]):
            done = subprocess.run([*command, "--version"], capture_output=True, text=True)
            assert (done.returncode, done.stderr) == (0, "")
            assert __version__ in done.stdout

    @pytest.mark.parametrize(
        ("before", "arguments", "last", "code"),
        [
            ("atexit.register(print, 'registered')", ["--version"], "registered", 0),
            ("threading.Timer(0.5, print, ['thread']).start()", ["--version"], "thread", 0),
            ("atexit.register(print, 'registered')", ["unknown"], "registered", 2),
            ("sys.stdout = None", ["unknown"], None, 2),
        ],
    )
    def test_end_of_the_process(
        self, before: str, arguments: list[str], last: str | None, code: int
    ) -> None:
        """Threads are waited for, and what is registered for the exit is run and printed."""
        start = "import atexit, sys, threading; from mfer_edge.cli.main import run"
        done = python(f"{start}; {before}; run()", *arguments)
        assert done.returncode == code
        assert done.stdout.splitlines()[-1:] == ([] if last is None else [last])

    def test_a_reader_that_left_is_no_error(self) -> None:
        command = [sys.executable, "-m", "mfer_edge", "--help"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode in (0, 1)

    def test_help_names_every_command_and_option(self) -> None:
        listed = passed(run("--help"))
        assert all(command in listed for command in ("infer", "export", "doctor"))
        shown = passed(run("infer", "--help"))
        options = "--bundle --device --window --hop --faces --threads --json --csv --vtt --video"
        assert all(option in shown for option in [*options.split(), "--plot", "--quiet"])

    @pytest.mark.parametrize(
        "code",
        [
            "import mfer_edge",
            "import mfer_edge.cli.main",
            "from mfer_edge.cli.main import main; main(['--help'], standalone_mode=False)",
            "from mfer_edge.cli.main import main; main(['infer', '--help'], standalone_mode=False)",
        ],
        ids=["package", "cli", "help", "infer help"],
    )
    def test_start_imports_nothing_heavy(self, code: str) -> None:
        done = python(f"import sys; {code}; print({HEAVY} & sys.modules.keys())")
        assert done.stdout.splitlines()[-1] == "set()"

    def test_infer_works_without_the_extras(self, moment: Path, tmp_path: Path) -> None:
        """Neither PyTorch nor other packages of the extras are installed."""
        code = (
            "import sys\n"
            "absent = ['torch', 'onnx', 'onnxscript', 'safetensors', 'transformers', 'scipy']\n"
            "sys.modules.update(dict.fromkeys(absent))\n"
            "from mfer_edge.cli.main import main\n"
            "main(sys.argv[1:], standalone_mode=False)"
        )
        arguments = ["--plot", tmp_path / "a.png", "--video", tmp_path / "a.mp4", "--quiet"]
        done = python(code, "infer", moment, *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    @pytest.mark.parametrize("command", COMMANDS)
    def test_help_needs_no_extra(self, command: str) -> None:
        code = (
            f"import sys; sys.modules.update(dict.fromkeys({OF_EXTRAS}))\n"
            "from mfer_edge.cli.main import run; run()"
        )
        done = python(code, command, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("Usage: ")

    def test_serve_names_its_extra(self) -> None:
        code = (
            "import sys; sys.modules['uvicorn'] = None\nfrom mfer_edge.cli.main import run; run()"
        )
        done = python(code, "serve", "--port", 0)
        assert done.returncode == 1
        assert done.stderr.startswith("error: uvicorn is not installed: install mfer-edge's extra")

    @pytest.mark.parametrize("module", ["click", "mfer_edge.cli.main", "mfer_edge.cli.infer"])
    def test_ctrl_c_while_modules_are_imported(self, module: str) -> None:
        """Half a second on a busy machine, in which people press it."""
        code = (
            "import sys\n"
            "class Pressed:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            f"        if name == {module!r}: raise KeyboardInterrupt\n"
            "sys.meta_path.insert(0, Pressed())\n"
            "from mfer_edge.__main__ import start; start()"
        )
        done = python(code, "infer", "clip.mp4")
        assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")

    def test_infer_does_not_import_an_installed_pytorch(self, moment: Path) -> None:
        code = (
            "import sys\n"
            "from mfer_edge.cli.main import main\n"
            "try: main(sys.argv[1:], standalone_mode=False)\n"
            "except SystemExit: print('torch' in sys.modules, 'onnxruntime' in sys.modules)"
        )
        assert python(code, "infer", moment, "--quiet").stdout == "False True\n"

    def test_infer_imports_nothing_needless(self, moment: Path) -> None:
        """Beside what NumPy, OpenCV, PyAV, ONNX Runtime and click import themselves."""
        code = (
            "import sys\n"
            f"import {', '.join(sorted(HEAVY - {'torch'}))}, click\n"
            "theirs = {*sys.modules}\n"
            "from mfer_edge.cli.main import main\n"
            "try: main(sys.argv[1:], standalone_mode=False)\n"
            "except SystemExit: print(*sorted({*sys.modules} - theirs))"
        )
        imported = python(code, "infer", moment, "--quiet").stdout.split()
        packages = tuple(f"{name}." for name in NEEDLESS)
        assert {"mfer_edge.pipeline", "mfer_edge.faces.mtcnn"} <= {*imported}
        needless = [name for name in imported if f"{name}.".startswith(packages)]
        assert needless == []

    def test_help_imports_no_command(self) -> None:
        code = (
            "import sys\n"
            "from mfer_edge.cli.main import COMMANDS, main\n"
            "main(['--help'], standalone_mode=False)\n"
            "print([e.module for e in COMMANDS.values() if e.module in sys.modules])"
        )
        assert python(code).stdout.splitlines()[-1] == "[]"

    @pytest.mark.parametrize("name", COMMANDS)
    def test_help_of_the_group_is_that_of_the_command(self, name: str) -> None:
        command = load_command(name, COMMANDS[name])
        assert command.name == name
        assert command.get_short_help_str(1000) == COMMANDS[name].help

    def test_public_names(self) -> None:
        import mfer_edge

        for name in mfer_edge.__all__:
            assert getattr(mfer_edge, name).__name__ == name
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            mfer_edge.nothing  # noqa: B018
