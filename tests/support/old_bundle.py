"""Bundles as earlier versions exported them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from mfer_edge.bundle import Bundle, file_sha256, save_bundle
from mfer_edge.engines.onnx import OnnxEngine


def without_places(bundle: Bundle, folder: Path) -> Bundle:
    """Save a bundle with a visual engine that takes no place: the training set's is inside."""
    manifest = bundle.manifest
    files = {file.file: bundle.folder / file.file for file in manifest.files}
    visual = manifest.engines["visual"]
    model = onnx.load(files[visual.file])
    for name, value in (("shift", np.zeros), ("scale", np.ones)):
        (given,) = [tensor for tensor in model.graph.input if tensor.name == name]
        width = given.type.tensor_type.shape.dim[0].dim_value
        model.graph.input.remove(given)
        constant = onnx.numpy_helper.from_array(value(width, np.float32), name)
        model.graph.initializer.append(constant)
    model.graph.output.remove(model.graph.output[2])
    files[visual.file] = folder.with_suffix(".visual.onnx")
    onnx.save(model, files[visual.file])
    engine = OnnxEngine(files[visual.file], ["CPUExecutionProvider"], threads=1)
    visual = replace(
        visual,
        sha256=file_sha256(files[visual.file]),
        bytes=files[visual.file].stat().st_size,
        inputs=tuple(engine.inputs),
        outputs=tuple(engine.outputs),
    )
    engines = {**manifest.engines, "visual": visual}
    return save_bundle(folder, replace(manifest, engines=engines), files, "# The card\n")
