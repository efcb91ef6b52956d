"""Every dataset in a made tree of its published layout, and those at hand for real."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from tests.support.paths import shared_data
from train.data.catalogue import DATASETS
from train.data.datasets import Rejected
from train.data.index import DatasetError, Entry
from train.labels import EMOTIONS, FACE_EMOTIONS, FACE_OF_EMOTION, FOUR_EMOTIONS

LAYOUTS = [
    # dataset, file, (kind, label, actor, sentence, split, take)
    ("ravdess", "Actor_07/03-01-03-02-02-01-07.wav",
     ("audio", "happy", "ravdess/07", "02", "", "ravdess/01-03-02-02-01-07")),
    ("ravdess", "Audio_Speech_Actors_01-24/Actor_07/03-01-03-02-02-01-07.WAV",
     ("audio", "happy", "ravdess/07", "02", "", "ravdess/01-03-02-02-01-07")),
    ("ravdess", "Video_Song_Actor_24/Actor_24/01-02-06-01-01-02-24.mp4",
     ("av", "fearful", "ravdess/24", "01", "", "ravdess/02-06-01-01-02-24")),
    ("ravdess", "Video_Song_Actor_24/02-02-01-01-01-02-24.mp4",
     ("video", "neutral", "ravdess/24", "01", "", "ravdess/02-01-01-01-02-24")),
    ("ravdess", "03-01-08-01-01-02-01.mp4",
     ("audio", "surprised", "ravdess/01", "01", "", "ravdess/01-08-01-01-02-01")),
    ("ravdess", "01-01-02-01-01-02-01.flac",
     ("audio", "calm", "ravdess/01", "01", "", "ravdess/01-02-01-01-02-01")),
    ("crema-d", "AudioWAV/1001_DFA_ANG_XX.wav",
     ("audio", "angry", "crema-d/1001", "DFA", "", "crema-d/1001_DFA_ANG_XX")),
    ("crema-d", "VideoFlash/1001_DFA_ANG_XX.flv",
     ("av", "angry", "crema-d/1001", "DFA", "", "crema-d/1001_DFA_ANG_XX")),
    ("crema-d", "1040_ITH_SAD_X.wav",  # its one odd name
     ("audio", "sad", "crema-d/1040", "ITH", "", "crema-d/1040_ITH_SAD_X")),
    ("crema-d", "sound/1091_WSI_NEU_XX.wav",
     ("audio", "neutral", "crema-d/1091", "WSI", "", "crema-d/1091_WSI_NEU_XX")),
    ("shemo", "male/M01A01.wav", ("audio", "angry", "shemo/M01", "", "", "shemo/M01A01")),
    ("shemo", "female/F31W12.wav", ("audio", "surprised", "shemo/F31", "", "", "shemo/F31W12")),
    ("shemo", "wav/F14F02.wav", ("audio", "fearful", "shemo/F14", "", "", "shemo/F14F02")),
    ("urdu", "Angry/SM1_F10_A010.wav",
     ("audio", "angry", "urdu/SM1", "", "", "urdu/SM1_F10_A010")),
    ("urdu", "sad/SF10_F1_S01.flac", ("audio", "sad", "urdu/SF10", "", "", "urdu/SF10_F1_S01")),
    ("urdu", "all/SM5_F69_N097.flac",
     ("audio", "neutral", "urdu/SM5", "", "", "urdu/SM5_F69_N097")),
    ("saudi", "Anger/one, 3.wav", ("audio", "angry", "", "", "", "saudi/Anger/one, 3")),
    ("saudi", "SAD/17.mp3", ("audio", "sad", "", "", "", "saudi/SAD/17")),
    ("fer2013", "train/angry/Training_1.png",
     ("image", "angry", "", "", "train", "fer2013/train/angry/Training_1")),
    ("fer2013", "valid/surprise/im0.jpg",
     ("image", "surprised", "", "", "test", "fer2013/valid/surprise/im0")),
    ("fer2013", "test/fear/PrivateTest_2.png",
     ("image", "fearful", "", "", "test", "fer2013/test/fear/PrivateTest_2")),
    ("fer2013", "disgust/PublicTest_3.png",
     ("image", "disgust", "", "", "test", "fer2013/disgust/PublicTest_3")),
    ("fer2013", "0/im1.png", ("image", "angry", "", "", "", "fer2013/0/im1")),
    ("ckplus", "anger/S010_004_00000017.png",
     ("image", "angry", "ckplus/S010", "", "", "ckplus/anger/S010_004_00000017")),
    ("ckplus", "CK+48/fear/S011_003_00000012.png",
     ("image", "fearful", "ckplus/S011", "", "", "ckplus/CK+48/fear/S011_003_00000012")),
    ("nemo", "samples/SK1_anger_12.wav",
     ("audio", "angry", "nemo/SK1", "", "", "nemo/SK1_anger_12")),
    ("ased", "ASED_V1/02Fearful/f2-06-02-01-13.wav",
     ("audio", "fearful", "ased/13", "", "", "ased/f2-06-02-01-13")),
    ("eyase", "Female02/fm01_ang (8).wav",
     ("audio", "angry", "eyase/Female02", "", "", "eyase/Female02/fm01_ang (8)")),
    ("emovo", "m3/gio-m3-b2.wav",
     ("audio", "happy", "emovo/m3", "b2", "", "emovo/gio-m3-b2")),
    ("casia", "happy/240-happy-ZhaoZuoxiang.wav",
     ("audio", "happy", "casia/zhaozuoxiang", "240", "", "casia/happy/240-happy-ZhaoZuoxiang")),
    ("casia", "wangzhe/fear/201.wav",
     ("audio", "fearful", "casia/wangzhe", "201", "", "casia/wangzhe/fear/201")),
    ("tess", "YAF_pleasant_surprised/YAF_back_ps.wav",
     ("audio", "surprised", "tess/YAF", "back", "", "tess/YAF_back_ps")),
    ("tess", "OAF_neutral/OA_bite_neutral.wav",  # its one odd name
     ("audio", "neutral", "tess/OAF", "bite", "", "tess/OA_bite_neutral")),
    ("turev", "Calm/1234_sk_tembel.wav",
     ("audio", "neutral", "turev/1234", "tembel", "", "turev/Calm/1234_sk_tembel")),
    ("savee", "AudioData/DC/su15.wav",
     ("audio", "surprised", "savee/DC", "", "", "savee/DC_su15")),
    ("savee", "JK_n21.wav", ("audio", "neutral", "savee/JK", "", "", "savee/JK_n21")),
    ("emo-db", "wav/03a01Fa.wav",
     ("audio", "happy", "emo-db/03", "a01", "", "emo-db/03a01Fa")),
    ("mead", "M003/video/front/angry/level_3/001.mp4",
     ("av", "angry", "mead/M003", "", "", "mead/M003_angry_3_001")),
    ("mead", "MEAD/M003/audio/angry/level_3/001.m4a",
     ("audio", "angry", "mead/M003", "", "", "mead/M003_angry_3_001")),
    ("mead", "W009_front_disgusted_level_1_020.mp4",
     ("av", "disgust", "mead/W009", "", "", "mead/W009_disgusted_1_020")),
    ("mead", "W009_surprised_level_2_020.mp4",
     ("av", "surprised", "mead/W009", "", "", "mead/W009_surprised_2_020")),
    ("jaffe", "jaffe/KA.AN1.39.tiff",
     ("image", "angry", "jaffe/KA", "", "", "jaffe/jaffe/KA.AN1.39")),
    ("ordinary", "speech/talks/anna_12.opus",
     ("audio", "neutral", "ordinary/talks:anna", "", "", "ordinary/speech/talks/anna_12")),
    ("ordinary", "talk/bob.mp4",
     ("av", "neutral", "ordinary/talk:bob", "", "", "ordinary/talk/bob")),
    ("own", "Happy/ali_1.mp4", ("av", "happy", "own/ali", "", "", "own/Happy/ali_1")),
    ("own", "joy/ali_1.flac", ("audio", "happy", "own/ali", "", "", "own/joy/ali_1")),
    ("own", "day 2/sadness/سارة_a_b.PNG",
     ("image", "sad", "own/سارة", "", "", "own/day 2/sadness/سارة_a_b")),
]  # fmt: skip

MISFITS = [
    ("ravdess", "03-01-09-01-01-01-01.wav", "'09' is no label"),
    ("ravdess", "03-01-03-01-01-01-25.wav", "name does not fit"),
    ("ravdess", "04-01-03-01-01-01-01.wav", "name does not fit"),
    ("ravdess", "03-01-03-01-01-01.wav", "name does not fit"),
    ("ravdess", "03-01-03-01-01-01-01-copy.wav", "name does not fit"),
    ("ravdess", "._03-01-03-01-01-01-01.wav", "name does not fit"),  # macOS leaves these
    ("ravdess", "Actor_02/03-01-03-01-01-01-01.wav", "folder is another actor's"),
    ("ravdess", "Video_Song_Actor_02/01-02-03-01-01-01-01.mp4", "folder is another actor's"),
    ("ravdess", "02-01-03-01-01-01-01.wav", "sound file with the name of silent video"),
    ("crema-d", "AudioWAV/1001_DFA_SUR_XX.wav", "'SUR' is no label"),
    ("crema-d", "AudioWAV/2001_DFA_ANG_XX.wav", "name does not fit"),
    ("shemo", "male/M01X01.wav", "'X' is no label"),
    ("shemo", "female/M01A01.wav", "other gender"),
    ("shemo", "male/01A01.wav", "name does not fit"),
    ("urdu", "Sad/SM1_F10_A010.wav", "folder is of another emotion"),
    ("urdu", "Angry/SM1_F10_X010.wav", "'X' is no label"),
    ("urdu", "Angry/M1_F10_A010.wav", "name does not fit"),
    ("saudi", "speaker 1/3.wav", "'speaker 1' is no label"),
    ("saudi", "fear/3.wav", "'fear' is no label"),  # it has four emotions
    ("fer2013", "train/calm/1.png", "'calm' is no label"),
    ("fer2013", "labels.csv", "has no columns emotion, pixels, Usage"),
    ("ckplus", "contempt/S138_008_00000007.png", "'contempt' is none of the eight emotions"),
    ("ckplus", "anger/010_004_00000017.png", "name does not fit"),
    ("nemo", "samples/SK1_disgust_1.wav", "'disgust' is no label"),
    ("nemo", "samples/anger_SK1.wav", "name does not fit"),
    ("ased", "03Happy/f2-06-02-01-13.wav", "folder is of another emotion"),
    ("ased", "02Fearful/x2-06-02-01-13.wav", "'x' is no label"),
    ("eyase", "Male01/ml01_sur (1).wav", "'sur' is no label"),
    ("emovo", "f1/rab-m3-b1.wav", "folder is another actor's"),
    ("emovo", "f1/xyz-f1-b1.wav", "'xyz' is no label"),
    ("casia", "angry/201-fear-wangzhe.wav", "folder is of another emotion"),
    ("casia", "wangzhe/disgust/201.wav", "'disgust' is no label"),
    ("tess", "OAF_Sad/OAF_sad.wav", "name does not fit"),
    ("turev", "Angry/acaba.wav", "name does not fit"),
    ("savee", "XX/a01.wav", "neither the name nor the folder tells the speaker"),
    ("emo-db", "wav/03a01La.wav", "'L' is none of the eight emotions"),  # boredom
    ("emo-db", "wav/3a01Fa.wav", "name does not fit"),
    ("mead", "M003/video/left_30/angry/level_3/001.mp4", "not the front view"),
    ("mead", "M003/video/front/contempt/level_3/001.mp4", "'contempt' is none of the eight"),
    ("mead", "M003/film/front/angry/level_3/001.mp4", "folders do not fit"),
    ("jaffe", "KA.XX1.39.tiff", "'XX' is no label"),
    ("jaffe", "KA-AN1-39.tiff", "name does not fit"),
    ("own", "contempt/ali_1.mp4", "'contempt' is no label"),
    ("own", "happy/ali.mp4", "name does not fit"),
    ("own", "happy/_1.mp4", "name does not fit"),
]

FITTING = {name: path for name, path, _ in reversed(LAYOUTS)}


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def fer_csv(path: Path, *rows: tuple[str, str], header: str = "emotion,pixels,Usage") -> Path:
    """Write (emotion, usage) rows, whose pixels nobody looks at here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [name.strip() for name in header.split(",")]
    with open(path, "w", newline="") as file:
        file.write(header + "\n")
        for emotion, usage in rows:
            value = {"emotion": emotion, "pixels": "0 1 2", "Usage": usage}
            csv.writer(file).writerow(value[name] for name in columns)
    return path


def scan(name: str, root: Path) -> tuple[list[Entry], list[Rejected]]:
    items = list(DATASETS[name].scan(root))
    return (
        [item for item in items if isinstance(item, Entry)],
        [item for item in items if isinstance(item, Rejected)],
    )


@pytest.mark.parametrize(("name", "file", "expected"), LAYOUTS, ids=[f[1] for f in LAYOUTS])
def test_a_file_is_what_its_place_says(
    tmp_path: Path, name: str, file: str, expected: tuple[str, ...]
) -> None:
    (entry,), rejected = scan(name, tree(tmp_path, file))
    assert not rejected
    assert (entry.dataset, entry.path, entry.row) == (name, tmp_path / file, -1)
    found = entry.kind, entry.label, entry.actor, entry.sentence, entry.split, entry.take
    assert found == expected


@pytest.mark.parametrize(("name", "file", "reason"), MISFITS, ids=[f[1] for f in MISFITS])
def test_a_file_out_of_place_is_rejected_for_a_reason(
    tmp_path: Path, name: str, file: str, reason: str
) -> None:
    entries, (rejected,) = scan(name, tree(tmp_path, file, FITTING[name]))
    assert rejected.path == tmp_path / file
    assert reason in rejected.reason
    assert [entry.path for entry in entries] == [tmp_path / FITTING[name]]


@pytest.mark.parametrize("name", DATASETS)
def test_what_is_no_medium_is_not_looked_at(tmp_path: Path, name: str) -> None:
    tree(
        tmp_path, FITTING[name], "README.md", f"{FITTING[name]}.md5", "notes", "more.wav/notes.txt"
    )
    entries, rejected = scan(name, tmp_path)
    assert len(entries) == 1
    assert not rejected


@pytest.mark.parametrize("name", DATASETS)
def test_a_folder_without_the_dataset_is_an_error_that_shows_the_layout(
    tmp_path: Path, name: str
) -> None:
    tree(tmp_path, "README.md")
    with pytest.raises(DatasetError) as error:
        scan(name, tmp_path)
    assert str(error.value).startswith(f"{tmp_path}: nothing here fits")
    assert DATASETS[name].example in str(error.value)


def test_the_error_says_what_is_wrong_with_the_first_file(tmp_path: Path) -> None:
    tree(tmp_path, "Actor_02/03-01-03-01-01-01-01.wav")
    with pytest.raises(
        DatasetError, match=r"03-01-03-01-01-01-01\.wav: the folder is another actor"
    ):
        scan("ravdess", tmp_path)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: No such file"):
        scan("ravdess", tmp_path / "nowhere")


@pytest.mark.parametrize("name", DATASETS)
def test_the_example_of_a_layout_fits_it(tmp_path: Path, name: str) -> None:
    example = DATASETS[name].example.split(" or ")[-1]
    (entry,), _ = scan(name, tree(tmp_path, example))
    assert entry.dataset == name


def test_every_label_is_one_of_the_eight_or_refused() -> None:
    for dataset in DATASETS.values():
        assert set(dataset.labels.values()) - {None} <= set(EMOTIONS)
        assert dataset.source
        assert dataset.title
    assert set(DATASETS["ravdess"].labels.values()) == set(EMOTIONS)
    for name in ("urdu", "saudi"):
        assert set(DATASETS[name].labels.values()) == set(FOUR_EMOTIONS)


def test_all_of_one_performance_is_one_take(tmp_path: Path) -> None:
    forms = "Actor_01/03-01-05-01-01-01-01.wav", "01-01-05-01-01-01-01.mp4"
    tree(tmp_path, *forms, "02-01-05-01-01-01-01.mp4", "03-01-05-01-01-02-01.wav")
    entries, _ = scan("ravdess", tmp_path)
    assert sorted(Counter(entry.take for entry in entries).values()) == [1, 3]
    assert sorted(entry.kind for entry in entries) == ["audio", "audio", "av", "video"]


def test_a_root_that_is_relative_gives_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path, "URDU/Angry/SM1_F10_A010.wav")
    monkeypatch.chdir(tmp_path)
    (entry,), _ = scan("urdu", Path("URDU"))
    assert entry.path == tmp_path / "URDU" / "Angry" / "SM1_F10_A010.wav"


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    tree(tmp_path / "elsewhere", "03-01-05-01-01-01-01.wav")
    tree(tmp_path / "RAVDESS", "Actor_02/03-01-05-01-01-01-02.wav")
    (tmp_path / "RAVDESS" / "Actor_01").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "RAVDESS" / "Actor_03").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "RAVDESS" / "Actor_02" / "up").symlink_to(tmp_path / "RAVDESS")
    entries, rejected = scan("ravdess", tmp_path / "RAVDESS")
    assert [entry.actor for entry in entries] == ["ravdess/01", "ravdess/02"]
    assert not rejected


def test_a_csv_gives_an_entry_for_each_row(tmp_path: Path) -> None:
    rows = [(str(code), "Training") for code in range(7)]
    path = fer_csv(tmp_path / "fer2013" / "fer2013.csv", *rows, ("3", "PublicTest"),
                   ("7", "Training"), ("6", "PrivateTest"))  # fmt: skip
    entries, (rejected,) = scan("fer2013", tmp_path)
    assert [entry.row for entry in entries] == [0, 1, 2, 3, 4, 5, 6, 7, 9]
    faces = [FACE_OF_EMOTION[entry.label] for entry in entries]
    assert faces == [*FACE_EMOTIONS, "happy", "neutral"]
    assert [entry.split for entry in entries] == ["train"] * 7 + ["test"] * 2
    assert {(entry.path, entry.kind) for entry in entries} == {(path, "image")}
    assert len({entry.take for entry in entries}) == 9
    assert ["PrivateTest" in entry.take for entry in entries] == [False] * 8 + [True]
    assert (rejected.row, rejected.reason) == (8, "'7' is no label of this dataset")


def test_the_columns_of_a_csv_may_come_in_another_order(tmp_path: Path) -> None:
    fer_csv(tmp_path / "icml_face_data.csv", ("4", "Training"), header="emotion, Usage, pixels")
    ((entry,), _) = scan("fer2013", tmp_path)
    assert (entry.label, entry.split) == ("sad", "train")


def test_a_csv_can_be_named_itself(tmp_path: Path) -> None:
    path = fer_csv(tmp_path / "faces.csv", ("4", "Training"))
    tree(tmp_path, "train/angry/1.png")
    ((entry,), _) = scan("fer2013", path)
    assert (entry.path, entry.label) == (path, "sad")


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("0,1 2", "line 3 is cut off"),
        ("0,1 2,Holdout", "row 1 has an unknown Usage"),
        ("0,1 \x00,\udcff", "no readable csv"),
    ],
)
def test_a_damaged_csv_is_not_used_in_part(tmp_path: Path, rest: str, message: str) -> None:
    path = fer_csv(tmp_path / "fer2013.csv", ("4", "Training"))
    path.write_bytes(path.read_bytes() + rest.encode(errors="surrogateescape"))
    with pytest.raises(DatasetError, match=rf"fer2013\.csv: {message}"):
        scan("fer2013", tmp_path)


def test_the_same_pictures_in_two_forms_are_an_error(tmp_path: Path) -> None:
    fer_csv(tmp_path / "fer2013.csv", ("4", "Training"))
    tree(tmp_path, "train/angry/1.png")
    with pytest.raises(DatasetError, match=r"more than once; name one of .*fer2013\.csv"):
        scan("fer2013", tmp_path)


def test_ravdess_is_whole() -> None:
    entries, rejected = scan("ravdess", shared_data("RAVDESS"))
    assert len(entries) == len({entry.take for entry in entries}) == 1439
    assert not rejected
    # Two statements, twice, in two strengths; neutral has no strong form. One is missing.
    each = dict.fromkeys(EMOTIONS, 8) | {"neutral": 4}
    expected = {(f"ravdess/{actor:02}", e): n for actor in range(1, 25) for e, n in each.items()}
    expected["ravdess/07", "happy"] -= 1
    assert Counter((entry.actor, entry.label) for entry in entries) == expected
    assert all(f"Actor_{entry.actor[-2:]}" == entry.path.parent.name for entry in entries)
    assert {entry.kind for entry in entries} == {"audio"}


def test_the_full_clips_are_takes_of_the_recordings() -> None:
    sounds, _ = scan("ravdess", shared_data("RAVDESS"))
    clips, rejected = scan("ravdess", shared_data("RAVDESS_AV"))
    assert (len(clips), len(rejected)) == (4, 0)
    assert {clip.kind for clip in clips} == {"av"}
    label_of = {sound.take: sound.label for sound in sounds}
    assert all(label_of[clip.take] == clip.label for clip in clips)


def test_urdu_is_whole() -> None:
    entries, rejected = scan("urdu", shared_data("URDU"))
    assert not rejected
    assert Counter(entry.label for entry in entries) == dict.fromkeys(FOUR_EMOTIONS, 100)
    assert len({entry.take for entry in entries}) == 400
    assert all(entry.path.parent.name.lower() == entry.label for entry in entries)
    # The file numbers after the F run to 100 in every emotion; speakers speak several times.
    assert 20 < len({entry.actor for entry in entries}) < 40
