"""Tables of labels, and their translation into the model's."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfer_edge.errors import AnnotationError, BatchError
from mfer_edge.evaluation.annotations import Annotation, LabelMap, read_annotations
from tests.support.analyses import SEVEN


def table(folder: Path, text: str) -> list[Annotation]:
    path = folder / "labels.csv"
    path.write_text(text)
    return read_annotations([path])


def annotation(label: str) -> Annotation:
    return Annotation("here", Path("clip.mp4"), label)


def test_columns(tmp_path: Path) -> None:
    read = table(
        tmp_path,
        "path,label,start_s,end_s,person,rater\na.mp4, happy ,0.5,2,Ann,x\nb/c.wav,sad,,,Bo,y\n",
    )
    place = f"{tmp_path}/labels.csv, line"
    assert read == [
        Annotation(f"{place} 2", tmp_path / "a.mp4", "happy", 0.5, 2.0, "Ann"),
        Annotation(f"{place} 3", tmp_path / "b/c.wav", "sad", None, None, "Bo"),
    ]


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("path\na.mp4\n", "no column label among path"),
        ("path,label\n,happy\n", "line 2: no path"),
        ("path,label\na.mp4,\n", "line 2: no label"),
        ("path,label,start_s\na.mp4,happy,1\n", "start_s and end_s go together"),
        ("path,label,start_s,end_s\na.mp4,happy,3,2\n", "from 3 to 2 s is no part"),
        ("path,label,start_s,end_s\na.mp4,happy,-1,2\n", "from -1 to 2 s is no part"),
        ("path,label,start_s,end_s\na.mp4,happy,nan,2\n", "start_s is nan"),
        ("path,label,start_s,end_s\na.mp4,happy,0:01,2\n", "start_s is 0:01"),
        ("path,label,person\na.mp4,happy,Ann\nb.mp4,sad,\n", "line 3: no person"),
        ("path,label\n", "no annotations"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, fact: str) -> None:
    with pytest.raises(AnnotationError, match=fact):
        table(tmp_path, text)


def test_another_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"ends in one of \.csv, \.parquet, \.eaf"):
        read_annotations([tmp_path / "labels.xlsx"])
    with pytest.raises(BatchError, match="No such file"):
        read_annotations([tmp_path / "labels.csv"])


class TestLabelMap:
    def test_translates_and_leaves_out(self) -> None:
        names = LabelMap.parse(["Happiness=happy", "other="])
        read = [annotation(name) for name in ("happiness", "OTHER", "Sad", "HAPPINESS")]
        assert [one.label for one in names.apply(read, SEVEN)] == ["happy", "sad", "happy"]

    def test_names_every_unknown_label_with_its_number(self) -> None:
        read = [annotation(name) for name in ("joy", "calm", "joy")]
        with pytest.raises(AnnotationError, match=r"joy \(2\), calm \(1\); map them"):
            LabelMap({}).apply(read, SEVEN)

    def test_a_mapping_in_vain(self) -> None:
        with pytest.raises(AnnotationError, match="happines is mapped, but no label"):
            LabelMap.parse(["happines=happy"]).apply([annotation("sad")], SEVEN)

    def test_a_mapping_to_nothing_of_the_model(self) -> None:
        with pytest.raises(AnnotationError, match="joyful is none of neutral, happy"):
            LabelMap.parse(["joy=joyful"]).apply([annotation("joy")], SEVEN)

    @pytest.mark.parametrize("texts", [["joy"], ["=happy"], ["joy=happy", "Joy=sad"]])
    def test_wrong_forms(self, texts: list[str]) -> None:
        with pytest.raises(ValueError, match=texts[-1].split("=")[0] or "="):
            LabelMap.parse(texts)
