"""Model repositories for Triton, by the published schema; none has run on a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.targets.triton import write_repository
from mfer_edge.bundle import Bundle
from mfer_edge.errors import OutputError
from mfer_edge.manifest import ENGINES
from mfer_edge.pipeline import Pipeline
from mfer_edge.samples import ANGER, FEAR
from tests.support.commands import passed, refused, run, scores_of
from tests.support.triton_stand_in import Repository, Tensor


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    out = tmp_path_factory.mktemp("triton") / "repository"
    write_repository(Bundle.open(), out)
    return Repository(out)


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.open(device="cpu", threads=1)


def test_a_model_for_each_engine_and_the_chain(repository: Repository) -> None:
    assert set(repository.configs) == {"compact", *(f"compact_{name}" for name in ENGINES)}


@pytest.mark.parametrize("engine", ENGINES)
def test_fields_of_an_engine(repository: Repository, engine: str) -> None:
    """Every field, beside what ONNX Runtime finds in the graph itself."""
    config, schema = repository.configs[f"compact_{engine}"], repository.schema
    session = repository.session(config.name)
    batched = engine in ("rnet", "onet", "face")
    assert config.backend == "onnxruntime"
    assert not config.platform
    assert config.max_batch_size == (64 if batched else 0)
    assert config.HasField("dynamic_batching") == batched
    if batched:
        assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    [group] = config.instance_group
    accelerated = engine in ("face", "audio")
    kinds = schema.ModelInstanceGroup
    assert group.kind == (kinds.KIND_AUTO if accelerated else kinds.KIND_CPU)
    assert group.count == (1 if accelerated else 2)
    threads = config.parameters["intra_op_thread_count"].string_value if not accelerated else "1"
    assert threads == "1"
    for configured, real in ((config.input, session.get_inputs()),
                             (config.output, session.get_outputs())):  # fmt: skip
        assert [one.name for one in configured] == [one.name for one in real]
        for one, tensor in zip(configured, real, strict=True):
            shape = tensor.shape[1:] if batched else tensor.shape
            sizes = [size if isinstance(size, int) else -1 for size in shape]
            assert list(one.dims) == (sizes or [1])
            assert one.HasField("reshape") == (not sizes)
            kind = {"tensor(float)": schema.TYPE_FP32, "tensor(uint8)": schema.TYPE_UINT8}
            assert one.data_type == kind[tensor.type]


def test_fields_of_the_chain(repository: Repository) -> None:
    config, schema = repository.configs["compact"], repository.schema
    assert (config.backend, config.max_batch_size) == ("python", 0)
    tensors = [*config.input, *config.output]
    assert [one.name for one in tensors] == ["clip", "options", "analysis"]
    assert {one.data_type for one in tensors} == {schema.TYPE_STRING}
    assert [one.optional for one in config.input] == [False, True]
    [group] = config.instance_group
    assert (group.count, group.kind) == (2, schema.ModelInstanceGroup.KIND_CPU)


def test_batches_give_what_single_rows_give(repository: Repository) -> None:
    faces = np.random.default_rng(0).integers(0, 255, (7, 1, 48, 48), np.uint8)
    together = repository.infer("compact_face", {"faces": faces})["embedding"]
    alone = [repository.infer("compact_face", {"faces": face[None]})["embedding"] for face in faces]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=0.02, rtol=0.05)


def request(clip: bytes | None, options: dict | bytes | None = None) -> dict[str, Tensor]:
    values = {"clip": clip, "options": options}
    if isinstance(options, dict):
        values["options"] = json.dumps(options).encode()
    return {
        name: Tensor(name, np.array([value], dtype=np.object_))
        for name, value in values.items()
        if value is not None
    }


@pytest.fixture(scope="module")
def chain(repository: Repository) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        yield repository.python_model("compact", patch)


def test_the_chain_gives_the_scores_of_the_pipeline(
    chain: Any, pipeline: Pipeline, repository: Repository
) -> None:
    answers = chain.execute([request(clip.read_bytes()) for clip in (ANGER, FEAR)])
    for clip, answer in zip((ANGER, FEAR), answers, strict=True):
        assert not answer.has_error(), answer.error().message()
        made = json.loads(answer.tensors["analysis"].as_numpy()[0])
        real = pipeline.analyze(clip).to_dict()
        assert (made["device"], made["source"]) == ("triton", "clip")
        assert scores_of(made)["tracks"] == real["tracks"]
        assert made["overall"]["label"] == real["overall"]["label"]
        for label, score in real["overall"]["scores"].items():
            assert made["overall"]["scores"][label] == pytest.approx(score, abs=0.01)
    assert max(repository.batches["compact_face"]) > 5


def test_options_of_a_request(chain: Any, pipeline: Pipeline) -> None:
    windows = {"window_s": 2.0, "hop_s": 1.0}
    [answer] = chain.execute([request(ANGER.read_bytes(), windows)])
    made = json.loads(answer.tensors["analysis"].as_numpy()[0])
    real = pipeline.analyze(ANGER, pipeline.options(**windows))
    assert [one["start_s"] for one in made["windows"]] == [one.start_s for one in real.windows]
    assert len(made["windows"]) > 1


@pytest.mark.parametrize(
    ("asked", "fact"),
    [
        (request(b"no clip at all" * 50), "clip: not a video"),
        (request(b""), "clip is empty"),
        (request(b"x", b"{"), "options is no JSON"),
        (request(b"x", {"threads": 2}), "options is no JSON object with some of window_s"),
        (request(b"x", {"window_s": 20.0}), "the window is 20"),
        (request(b"x", {"window_s": "long"}), "options has a value of a wrong type"),
    ],
)
def test_a_request_that_fails_is_an_error_of_its_own(
    chain: Any, asked: dict, fact: str, clip: Path
) -> None:
    wrong, right = chain.execute([asked, request(clip.read_bytes())])
    assert fact in wrong.error().message()
    assert "\n" not in wrong.error().message()
    assert not right.has_error()


class TestCommand:
    def test_writes_a_repository(self, tmp_path: Path) -> None:
        out = tmp_path / "models" / "repository"
        text = passed(run("export", "--triton", out))
        assert "compact_face        onnxruntime  1 x KIND_AUTO  batches of up to 64" in text
        assert text.endswith("compact int8+fp32; not run on a server\n")
        assert len(Repository(out).configs) == len(ENGINES) + 1
        assert [path.name for path in (tmp_path / "models").iterdir()] == ["repository"]

    def test_does_not_write_over_anything(self, tmp_path: Path) -> None:
        (tmp_path / "mine").write_text("")
        line = refused(run("export", "--triton", tmp_path), 1)
        assert "exists and is not an empty folder" in line

    def test_takes_a_bundle_only(self, tmp_path: Path) -> None:
        line = refused(run("export", "--triton", tmp_path / "out", "--fp16"), 2)
        assert line == "--fp16 can't go with --triton"

    def test_a_name_that_is_a_path(self, tmp_path: Path) -> None:
        bundle = Bundle.open()
        named = replace(bundle, manifest=replace(bundle.manifest, name="../out"))
        with pytest.raises(OutputError, match=r"\.\./out: as a model's name"):
            write_repository(named, tmp_path / "repository")
