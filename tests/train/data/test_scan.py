"""What is gathered from made datasets, what is left out of them and why; and the real ones."""

from __future__ import annotations

import hashlib
import shutil
import wave
from collections import Counter, defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.clips import sine, write_clip
from tests.support.paths import shared_data
from train.data.datasets import Rejected
from train.data.index import DatasetError, Entry, read_index, write_index
from train.data.scan import Gathered, counts_table, gather, rejected_table
from train.labels import FACE_EMOTIONS

CODES = {emotion: str(code) for code, emotion in enumerate(FACE_EMOTIONS)}


def levels(seed: int, samples: int = 800) -> np.ndarray:
    """Noise: (samples,) int16."""
    return np.random.default_rng(seed).integers(-9000, 9000, samples).astype("<i2")


def sound(path: Path, samples: np.ndarray) -> Path:
    """Write int16 samples, 16 kHz, mono."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path


def face(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 48)).astype(np.uint8)


def picture(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path


def clip(path: Path, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_clip(path, 0.2, **options)  # type: ignore[arg-type]


def only(gathered: Gathered) -> Entry:
    (entry,) = gathered.entries
    assert not gathered.rejected
    return entry


def reasons(gathered: Gathered) -> dict[str, str]:
    """Why each file was left out, by its name."""
    return {item.path.name: item.reason for item in gathered.rejected}


def test_the_content_of_sound_is_its_samples(tmp_path: Path) -> None:
    root = sound(tmp_path / "own" / "sad" / "ann_1.wav", levels(1)).parents[1]
    entry = only(gather([("own", root)]))
    assert (entry.kind, entry.label, entry.actor) == ("audio", "sad", "own/ann")
    # Samples come back as multiples of 1/32768, and are kept as multiples of 1/32767.
    expected = np.round(levels(1).astype(np.float32) / 32768 * 32767).astype("<i2")
    assert entry.content == hashlib.sha256(expected.tobytes()).hexdigest()


def test_the_same_sound_in_another_format_is_a_copy(tmp_path: Path) -> None:
    sound(tmp_path / "sad" / "ann_1.wav", levels(1))
    samples = levels(1).astype(np.float32)[None] / 32768
    write_clip(tmp_path / "sad" / "ann_2.flac", video=None, audio=samples, rate=16_000)
    gathered = gather([("own", tmp_path)])
    assert [entry.path.name for entry in gathered.entries] == ["ann_1.wav"]
    assert reasons(gathered) == {"ann_2.flac": "a copy of another file"}


def test_the_content_of_a_picture_is_its_pixels(tmp_path: Path) -> None:
    picture(tmp_path / "fear" / "S010_004_00000017.png", face(1))
    entry = only(gather([("ckplus", tmp_path)]))
    assert entry.kind == "image"
    assert entry.content == hashlib.sha256(face(1).tobytes()).hexdigest()


def test_the_content_of_a_clip_is_the_file(tmp_path: Path) -> None:
    path = clip(tmp_path / "happy" / "bob_1.mp4", audio=sine(0.2))
    entry = only(gather([("own", tmp_path)]))
    assert entry.kind == "av"
    assert entry.content == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_clip_without_sound_is_silent_video_and_said_to_be(tmp_path: Path) -> None:
    clip(tmp_path / "happy" / "bob_1.mp4")
    clip(tmp_path / "happy" / "bob_2.mkv", size=(80, 64))
    gathered = gather([("own", tmp_path)])
    assert [entry.kind for entry in gathered.entries] == ["video", "video"]
    assert gathered.notes == ["own: without a sound track; taken for silent video (2 files)"]


def test_a_flash_video_is_a_full_clip(tmp_path: Path) -> None:
    clip(tmp_path / "VideoFlash" / "1001_DFA_ANG_XX.flv", audio=sine(0.2, 44_100), rate=44_100,
         video_codec="libx264", audio_codec="aac")  # fmt: skip
    sound(tmp_path / "AudioWAV" / "1001_DFA_ANG_XX.wav", levels(2))
    gathered = gather([("crema-d", tmp_path)])
    assert [entry.kind for entry in gathered.entries] == ["audio", "av"]
    assert len({entry.take for entry in gathered.entries}) == 1


def test_published_silent_video_stays_so(tmp_path: Path) -> None:
    clip(tmp_path / "02-01-05-01-01-01-01.mp4", audio=sine(0.2))
    assert only(gather([("ravdess", tmp_path)])).kind == "video"


def test_what_cannot_be_trained_on_is_left_out_for_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "sad"
    sound(folder / "ann_good.wav", levels(1))
    sound(folder / "ann_empty.wav", levels(1, 0))
    sound(folder / "ann_silent.wav", np.zeros(800, "<i2"))
    sound(folder / "ann_steady.wav", np.full(800, 77, "<i2"))
    (folder / "ann_none.wav").touch()
    (folder / "ann_text.wav").write_text("version https://git-lfs.github.com/spec/v1")
    clip(folder / "ann_heard.mp4", video=None, audio=sine(0.2), audio_codec="aac")
    picture(folder / "ann_blank.png", np.full((48, 48), 5, np.uint8))
    (folder / "ann_bad.png").write_bytes(b"\x89PNG\r\n")
    (folder / "ann_link.png").symlink_to("nowhere")
    shutil.copy(folder / "ann_good.wav", folder / "caf\udce9_1.wav")
    gathered = gather([("own", tmp_path)])
    assert [entry.path.name for entry in gathered.entries] == ["ann_good.wav"]
    unreadable = "not a video or sound file, or one that was cut off"
    assert reasons(gathered) == {
        "ann_empty.wav": "nothing in this file could be decoded",
        "ann_silent.wav": "the sound is silent from start to end",
        "ann_steady.wav": "the sound is silent from start to end",
        "ann_none.wav": "the file is empty",
        "ann_text.wav": unreadable,
        "ann_heard.mp4": "holds no pictures",
        "ann_blank.png": "the picture is blank",
        "ann_bad.png": "not a picture, or one that was cut off",
        "ann_link.png": "No such file or directory",
        "caf\udce9_1.wav": "the name is not UTF-8; rename it",
    }
    rejected_table(gathered.rejected).encode()  # a terminal can show it


def test_sound_that_is_damaged_or_cut_off_is_used_and_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "sad").mkdir()
    for name in ("whole.flac", "cut.flac", "spoilt.mp3"):
        path = tmp_path / "sad" / f"ann_{name}"
        write_clip(path, video=None, audio=sine(2.0), rate=48_000)
        data, third = path.read_bytes(), path.stat().st_size // 3
        if name == "cut.flac":
            path.write_bytes(data[: 2 * third])
        if name == "spoilt.mp3":
            path.write_bytes(data[:third] + bytes(3000) + data[third + 3000 :])
    gathered = gather([("own", tmp_path)])
    assert len(gathered.entries) == 3
    assert gathered.notes == ["own: damaged or cut off; what can be decoded is used (2 files)"]


def test_published_sound_without_any_is_left_out(tmp_path: Path) -> None:
    clip(tmp_path / "03-01-05-01-01-01-01.mp4")
    assert reasons(gather([("ravdess", tmp_path)])) == {
        "03-01-05-01-01-01-01.mp4": "holds no sound"
    }


def test_copies_with_different_labels_all_go(tmp_path: Path) -> None:
    for label in ("sad", "angry"):
        sound(tmp_path / label / f"ann_{label}.wav", levels(1))
    sound(tmp_path / "sad" / "ann_other.wav", levels(2))
    gathered = gather([("own", tmp_path)])
    assert [entry.path.name for entry in gathered.entries] == ["ann_other.wav"]
    assert set(reasons(gathered).values()) == {"a copy of a file with another label"}
    details = {item.path.name: item.detail for item in gathered.rejected}
    assert details["ann_sad.wav"] == f"sad; angry as {tmp_path}/angry/ann_angry.wav"


def test_copies_are_found_across_datasets(tmp_path: Path) -> None:
    sound(tmp_path / "r" / "03-01-05-01-01-01-01.wav", levels(1))
    sound(tmp_path / "c" / "1001_DFA_ANG_XX.wav", levels(1))
    gathered = gather([("crema-d", tmp_path / "c"), ("ravdess", tmp_path / "r")])
    assert [entry.dataset for entry in gathered.entries] == ["crema-d"]
    assert reasons(gathered) == {"03-01-05-01-01-01-01.wav": "a copy of another file"}


def test_a_test_split_stays_whole_and_its_copies_go(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "angry" / "train-copy.png", face(1))
    picture(tmp_path / "train" / "sad" / "train-other.png", face(2))
    picture(tmp_path / "valid" / "sad" / "one.png", face(1))
    picture(tmp_path / "valid" / "fear" / "two.png", face(1))
    picture(tmp_path / "valid" / "sad" / "blank.png", np.zeros((48, 48), np.uint8))
    picture(tmp_path / "train" / "sad" / "blank-too.png", np.zeros((48, 48), np.uint8))
    gathered = gather([("fer2013", tmp_path)])
    assert sorted(entry.path.name for entry in gathered.entries) == [
        "blank.png", "one.png", "train-other.png", "two.png",
    ]  # fmt: skip
    assert reasons(gathered) == {
        "train-copy.png": "a copy of a file in the test split",
        "blank-too.png": "the picture is blank",
    }
    assert sorted(gathered.notes) == [
        "fer2013: blank, but kept in the test split, as published figures count it (1 files)",
        "fer2013: copies of each other in the test split; kept, as published figures count them"
        " (2 files)",
    ]


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["sad", "fear"]), st.booleans()),
        min_size=1,
        max_size=9,
    )
)
def test_what_is_kept_follows_from_contents_labels_and_splits(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[int, str, bool]]
) -> None:
    root = tmp_path_factory.mktemp("fer")
    for number, (content, label, test) in enumerate(files):
        picture(root / ("test" if test else "train") / label / f"{number}.png", face(content))
    gathered = gather([("fer2013", root)])
    kept = [files[int(entry.path.stem)] for entry in gathered.entries]
    assert len(kept) + len(gathered.rejected) == len(files)
    assert Counter(f for f in kept if f[2]) == Counter(f for f in files if f[2])
    tested = {content for content, _, test in files if test}
    labels = defaultdict(set)
    for content, label, _ in files:
        labels[content].add(label)
    fit_for_training = {c for c in labels if c not in tested and len(labels[c]) == 1}
    assert sorted(content for content, _, test in kept if not test) == sorted(fit_for_training)


def test_the_csv_of_fer_2013_gives_what_its_folders_give(tmp_path: Path) -> None:
    usages = {"train": "Training", "valid": "PublicTest", "test": "PrivateTest"}
    lines = ["emotion,pixels,Usage"]
    for seed, (split, emotion) in enumerate((s, e) for s in usages for e in FACE_EMOTIONS):
        picture(tmp_path / "folders" / split / emotion / f"{seed}.png", face(seed % 20))
        pixels = " ".join(map(str, face(seed % 20).ravel()))
        lines.append(f"{CODES[emotion]},{pixels},{usages[split]}")
    (tmp_path / "fer2013.csv").write_text("\n".join([*lines, "3,1 2 3,Training"]))
    folders = gather([("fer2013", tmp_path / "folders")])
    rows = gather([("fer2013", tmp_path / "fer2013.csv")])
    facts = [Counter((e.content, e.label, e.split) for e in g.entries) for g in (folders, rows)]
    assert facts[0] == facts[1]
    assert len(rows.entries) == 20  # the last of the 21 repeats the first, which was for training
    assert {item.row: item.reason for item in rows.rejected} == {
        0: "a copy of a file in the test split",
        21: "the row does not hold 48 x 48 grey levels",
    }


def test_a_file_below_two_roots_counts_once(tmp_path: Path) -> None:
    picture(tmp_path / "test" / "sad" / "1.png", face(1))
    gathered = gather([("fer2013", tmp_path), ("fer2013", tmp_path / "test")])
    assert len(gathered.entries) == 1
    assert reasons(gathered) == {"1.png": "below two of the folders"}


def test_an_unknown_dataset_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="unknown dataset 'iemocap': known are ravdess, crema-d"):
        gather([("iemocap", tmp_path)])


def test_progress_counts_every_file(tmp_path: Path) -> None:
    for number in range(3):
        sound(tmp_path / "sad" / f"ann_{number}.wav", levels(number % 2))
    seen: list[tuple[int, int]] = []
    gather([("own", tmp_path)], lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_counts_are_laid_out_as_in_the_paper(tmp_path: Path) -> None:
    for number, label in enumerate(["sad", "sad", "angry", "calm"]):
        sound(tmp_path / "own" / label / f"{'ab'[number % 2]}_{number}.wav", levels(number))
    clip(tmp_path / "own" / "happy" / "a_film.mp4", audio=sine(0.2))
    for number in range(11):
        picture(tmp_path / "fer" / "test" / "fear" / f"{number}.png", face(number))
    gathered = gather([("own", tmp_path / "own"), ("fer2013", tmp_path / "fer")])
    assert counts_table(gathered.entries).splitlines() == [
        "                    own  fer2013  total",
        "neutral               0        0      0",
        "calm                  1        0      1",
        "happy                 1        0      1",
        "sad                   2        0      2",
        "angry                 1        0      1",
        "fearful               0       11     11",
        "disgust               0        0      0",
        "surprised             0        0      0",
        "total                 5       11     16",
        "actors                2        0      2",
        "actor unknown         0       11     11",
        "audio                 4        0      4",
        "av                    1        0      1",
        "image                 0       11     11",
        "published for test    0       11     11",
    ]


def test_rejections_are_grouped_by_reason() -> None:
    many = [Rejected(Path(f"/d/{n}.wav"), "silent", "why" * (n == 0)) for n in range(5)]
    table = rejected_table([Rejected(Path("/d/f.csv"), "odd", row=7), *many])
    assert table.splitlines() == [
        "      5 silent",
        "          /d/0.wav (why)",
        "          /d/1.wav",
        "          /d/2.wav",
        "          and 2 more",
        "      1 odd",
        "          /d/f.csv, row 7",
    ]
    assert rejected_table([]) == ""


def test_real_recordings_and_clips_are_gathered(tmp_path: Path) -> None:
    sounds, clips = shared_data("RAVDESS", "Actor_07"), shared_data("RAVDESS_AV")
    urdu = shared_data("URDU", "Sad")
    gathered = gather([("ravdess", sounds), ("ravdess", clips), ("urdu", urdu)])
    assert not gathered.rejected
    assert not gathered.notes
    assert Counter(entry.kind for entry in gathered.entries) == {"audio": 159, "av": 4}
    write_index(gathered.entries, tmp_path / "index.csv")
    assert read_index(tmp_path / "index.csv") == gathered.entries


def test_no_real_face_is_both_trained_and_tested_on() -> None:
    gathered = gather([("fer2013", shared_data("FER2013"))])
    assert Counter(entry.split for entry in gathered.entries) == {"train": 27_039, "test": 3_589}
    contents = {split: [e.content for e in gathered.entries if e.split == split]
                for split in ("train", "test")}  # fmt: skip
    assert not set(contents["train"]) & set(contents["test"])
    assert len(set(contents["train"])) == 27_039
    # Counted once by exact pixels, apart from this code.
    assert Counter(item.reason for item in gathered.rejected) == {
        "a copy of another file": 1_099,
        "a copy of a file in the test split": 298,
        "most raters could not name the emotion": 185,
        "most raters saw no face": 3,
        "no rater named one of the emotions": 2,
        "a copy of a file with another label": 72,
        "the picture is blank": 11,
    }
