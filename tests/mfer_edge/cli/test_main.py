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


class TestProgram:
    def test_version(self) -> None:
        assert passed(run("--version")) == f"mfer-edge, version {__version__}\n"

    def test_module_and_script(self) -> None:
        script = Path(sys.executable).with_name("mfer-edge")
        for command in ([sys.executable, "-m", "mfer_edge"], [str(script)]):
            done = subprocess.run([*command, "--version"], capture_output=True, text=True)
            assert (done.returncode, done.stderr) == (0, "")
            assert __version__ in done.stdout

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

    def test_infer_does_not_import_an_installed_pytorch(self, moment: Path) -> None:
        code = (
            "import sys\n"
            "from mfer_edge.cli.main import main\n"
            "try: main(sys.argv[1:], standalone_mode=False)\n"
            "except SystemExit: print('torch' in sys.modules, 'onnxruntime' in sys.modules)"
        )
        assert python(code, "infer", moment, "--quiet").stdout == "False True\n"

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
