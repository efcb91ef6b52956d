"""Engines that a Triton Inference Server runs, called from a model of its Python backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mfer_edge.arms import VisualArm
from mfer_edge.bundle import Bundle, file_sha256
from mfer_edge.engines.base import Engine, TensorSpec
from mfer_edge.errors import BundleError, EngineError
from mfer_edge.faces.mtcnn import BATCH
from mfer_edge.manifest import MANIFEST, parse_manifest
from mfer_edge.model import Model
from mfer_edge.pipeline import Pipeline

PROVIDER = "Triton"  # in results, as what runs the engines
MAX_BATCH = BATCH  # rows of a request to a batched engine; the detector's calls have no more


@dataclass(frozen=True)
class TritonEngine:
    """An engine of the server that this process is a model of; an `Engine`.

    Args:
        backend: the module `triton_python_backend_utils`, which only that process can import.
        model: name of the engine in the model repository.
        outputs: of the engine.
    """

    backend: Any
    model: str
    outputs: Sequence[TensorSpec]

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Run on named arrays and return every output by name.

        Raises:
            EngineError: the server could not run it.
        """
        backend = self.backend
        request = backend.InferenceRequest(
            model_name=self.model,
            requested_output_names=[output.name for output in self.outputs],
            inputs=[
                backend.Tensor(name, np.ascontiguousarray(array)) for name, array in arrays.items()
            ],
            preferred_memory=backend.PreferredMemory(backend.TRITONSERVER_MEMORY_CPU),
        )
        response = request.exec()
        if response.has_error():
            raise EngineError(f"{self.model}: {response.error().message()}")
        return {output.name: self._array(response, output) for output in self.outputs}

    def _array(self, response: Any, output: TensorSpec) -> np.ndarray:
        tensor = self.backend.get_output_tensor_by_name(response, output.name)
        if tensor is None:
            raise EngineError(f"{self.model}: no output {output.name}")
        array: np.ndarray = tensor.as_numpy()
        # A shape of the batch alone is (n, 1) at the server, which wants a dimension beside it.
        return array[..., 0] if array.ndim == len(output.shape) + 1 else array


def engine_model(bundle_name: str, engine: str) -> str:
    """Name of an engine in a model repository."""
    return f"{bundle_name}_{engine}"


def open_pipeline(folder: Path, backend: Any) -> Pipeline:
    """A pipeline on the engines of the server; it loads none itself.

    Args:
        folder: with the bundle's manifest.
        backend: the module `triton_python_backend_utils`.

    Raises:
        BundleError: there is no valid manifest.
    """
    path = folder / MANIFEST
    try:
        manifest = parse_manifest(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: not a valid manifest: {error}") from error
    engines: dict[str, Engine] = {
        name: TritonEngine(backend, engine_model(manifest.name, name), engine.outputs)
        for name, engine in manifest.engines.items()
    }
    bundle = Bundle(folder, manifest, file_sha256(path))
    model = Model.of(bundle, engines)
    visual = VisualArm(engines["face"], engines["visual"], MAX_BATCH)
    return Pipeline(replace(model, visual=visual, providers=(PROVIDER,)))
