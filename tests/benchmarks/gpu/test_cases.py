"""Cases, filled with faces and speech of a clip."""

from __future__ import annotations

import numpy as np

from benchmarks.gpu.cases import WindowInputs


def test_a_window_is_filled_with_recorded_faces_and_speech(
    inputs: WindowInputs, recorded: dict[str, list[dict[str, np.ndarray]]]
) -> None:
    faces = np.concatenate([call["faces"] for call in recorded["face"]])
    wave = recorded["audio"][0]["wave"]
    assert len(faces) < 20 and wave.shape[1] < 64_000  # or nothing would be repeated
    assert inputs.faces.shape == (20, *faces.shape[1:])
    np.testing.assert_array_equal(inputs.faces[: len(faces)], faces)
    np.testing.assert_array_equal(inputs.faces[len(faces)], faces[0])
    assert inputs.audio["wave"].shape == (1, 64_000)
    np.testing.assert_array_equal(inputs.audio["wave"][:, : wave.shape[1]], wave)
    assert inputs.sequence["embeddings"].shape[:2] == (1, 20)
    assert inputs.fresh == 5
    assert [(case.name, case.batch) for case in inputs.cases()] == [
        ("face", "1 face"),
        ("face", "20 faces"),
        ("audio", "4 s"),
        ("visual + fusion", "20 faces"),
    ]
