"""How this copy of mfer-edge was installed, and so how to install an extra of it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

INSTALL_FOLDER = Path(__file__).resolve().parents[1]  # the checkout, or `site-packages`


def install_hint(extra: str) -> str:
    """The extra to install and the command that does it, for a message."""
    extras = extra if _has_onnxruntime() or extra in ("cpu", "gpu") else f"cpu,{extra}"
    return f"install mfer-edge's extra {extra}: {install_command(extras)}"


def install_command(extras: str) -> str:
    """The command that adds extras, such as "cpu,train", to this copy of mfer-edge."""
    if (INSTALL_FOLDER / "pyproject.toml").is_file():
        return f"pip install -e {shlex.quote(f'{INSTALL_FOLDER}[{extras}]')}"
    origin = _origin()
    url = str(origin.get("url", ""))
    if vcs := origin.get("vcs_info"):
        source = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
        return f"pip install {shlex.quote(f'mfer-edge[{extras}] @ {source}')}"
    if url.startswith("file:"):
        path = url2pathname(urlsplit(url).path)
        return f"pip install {shlex.quote(f'{path}[{extras}]')}"
    source = f" @ {url}" if url else ""
    return f"pip install {shlex.quote(f'mfer-edge[{extras}]{source}')}"


def _origin() -> dict[str, Any]:
    """What pip noted on where the package came from; empty for one that came from an index."""
    with suppress(importlib.metadata.PackageNotFoundError, ValueError):
        text = importlib.metadata.distribution("mfer-edge").read_text("direct_url.json")
        return json.loads(text) if text else {}
    return {}


def _has_onnxruntime() -> bool:
    """Whether ONNX Runtime is there: for a CPU or a GPU, which must not be installed together."""
    try:
        return importlib.util.find_spec("onnxruntime") is not None
    except ValueError:  # in `sys.modules` without a spec
        return False
