"""Model of Triton's Python backend: a clip in, its analysis out; copied into a model repository.

The server's Python needs mfer-edge with its extra `cpu`. Engines are not loaded here: they are
models of the same repository, so that the faces of all clips meet in their batches.
"""

from __future__ import annotations

import json
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from mfer_edge.engines.triton import open_pipeline
from mfer_edge.errors import MferError

OPTIONS = ("window_s", "hop_s", "faces", "skip_still")


class TritonPythonModel:
    """What the backend looks for in this file."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the manifest beside this file."""
        self._triton: Any = import_module("triton_python_backend_utils")  # the server has it
        folder = Path(args["model_repository"]) / args["model_version"]
        self._pipeline = open_pipeline(folder, self._triton)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Analyse the clip of each request."""
        return [self._response(request) for request in requests]

    def _response(self, request: Any) -> Any:
        triton = self._triton
        try:
            clip, options = (_bytes(triton, request, name) for name in ("clip", "options"))
            text = self._analyze(clip, options)
        except (MferError, ValueError) as error:
            return triton.InferenceResponse(error=triton.TritonError(str(error)))
        return triton.InferenceResponse(output_tensors=[triton.Tensor("analysis", _text(text))])

    def _analyze(self, clip: bytes | None, options: bytes | None) -> str:
        if not clip:
            raise ValueError("clip is empty: send the bytes of a video or sound file")
        try:
            given = json.loads(options or b"{}")
        except ValueError as error:
            raise ValueError(f"options is no JSON: {error}") from error
        if not isinstance(given, dict) or set(given) - set(OPTIONS):
            raise ValueError(f"options is no JSON object with some of {', '.join(OPTIONS)}")
        try:
            chosen = self._pipeline.options(**given)
        except TypeError as error:
            raise ValueError(f"options has a value of a wrong type: {error}") from error
        with tempfile.NamedTemporaryFile(prefix="mfer-edge-") as file:
            file.write(clip)
            file.flush()
            try:
                made = self._pipeline.analyze(file.name, chosen).to_dict()
            except MferError as error:
                raise ValueError(str(error).replace(file.name, "clip")) from error
        return json.dumps(made | {"source": "clip"}, ensure_ascii=False)


def _bytes(triton: Any, request: Any, name: str) -> bytes | None:
    tensor = triton.get_input_tensor_by_name(request, name)
    if tensor is None:
        return None
    value = tensor.as_numpy().reshape(-1)[0]
    return value if isinstance(value, bytes) else str(value).encode()


def _text(text: str) -> np.ndarray:
    return np.array([text.encode()], dtype=np.object_)
