"""ELAN files, in the published format (EAF 3.0)."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfer_edge.errors import AnnotationError
from mfer_edge.evaluation.annotations import read_annotations
from mfer_edge.evaluation.elan import read_elan

EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2026-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
 <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
  <MEDIA_DESCRIPTOR MEDIA_URL="file:///elsewhere/my%20clip.mp4" MIME_TYPE="video/mp4"
   RELATIVE_MEDIA_URL="./my%20clip.mp4" {origin}/>
 </HEADER>
 <TIME_ORDER>
  <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="500"/>
  <TIME_SLOT TIME_SLOT_ID="ts2"/>
  <TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="2500"/>
 </TIME_ORDER>
 <TIER LINGUISTIC_TYPE_REF="default-lt" PARTICIPANT="Ann" TIER_ID="emotion">
  <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
   <ANNOTATION_VALUE>happy</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3">
   <ANNOTATION_VALUE> </ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
 </TIER>
 <TIER LINGUISTIC_TYPE_REF="sym" PARENT_REF="emotion" TIER_ID="second">
  <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a3" ANNOTATION_REF="a2">
   <ANNOTATION_VALUE>sad</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
 </TIER>
 <TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="empty"/>
</ANNOTATION_DOCUMENT>
"""


@pytest.fixture
def eaf(tmp_path: Path) -> Path:
    return written(tmp_path)


def written(folder: Path, text: str = EAF, origin: str = "") -> Path:
    path = folder / "coded.eaf"
    path.write_text(text.replace("{origin}", origin), encoding="utf-8")
    return path


def test_a_tier(eaf: Path) -> None:
    (eaf.parent / "my clip.mp4").write_bytes(b"")
    [one] = read_annotations([eaf], ["emotion"])  # the empty one is no label
    assert (one.path, one.label, one.person) == (eaf.parent / "my clip.mp4", "happy", "Ann")
    assert (one.start_s, one.end_s) == (0.5, 1.5)  # ts2 lies in the middle
    assert one.place == f"{eaf}, a1"


def test_a_tier_of_references_has_its_parents_times(eaf: Path) -> None:
    [one] = read_elan(eaf, ["second"]).annotations
    assert (one.value, one.start_s, one.end_s, one.participant) == ("sad", 1.5, 2.5, None)


def test_times_start_at_the_recordings_origin(tmp_path: Path) -> None:
    [one, *_] = read_elan(written(tmp_path, origin='TIME_ORIGIN="2000"'), ["emotion"]).annotations
    assert (one.start_s, one.end_s) == (2.5, 3.5)


def test_one_filled_tier_need_not_be_named(tmp_path: Path) -> None:
    text = EAF.replace("<ANNOTATION><REF", "<!-- <ANNOTATION><REF").replace(
        "</REF_ANNOTATION></ANNOTATION>", "</REF_ANNOTATION></ANNOTATION> -->"
    )
    assert [one.value for one in read_elan(written(tmp_path, text)).annotations] == ["happy", ""]


def test_a_recording_that_is_not_there_is_expected_beside_the_file(eaf: Path) -> None:
    assert read_elan(eaf, ["emotion"]).media == eaf.parent / "my clip.mp4"


@pytest.mark.parametrize(
    ("old", "new", "fact"),
    [
        ("<ANNOTATION_DOCUMENT", "<DOC", "not an ELAN file"),
        ('TIME_SLOT_ID="ts2"', 'TIME_SLOT_ID="other"', "damaged ELAN file .*ts2"),
        (' TIME_VALUE="2500"', "", "ts2 has no time"),
        ('TIME_VALUE="2500"', 'TIME_VALUE="late"', "damaged ELAN file"),
        ("<TIME_ORDER>", "<!DOCTYPE x><TIME_ORDER>", "defines entities"),
        ('REF="a2"', 'REF="a3"', "a3 has no time"),
    ],
)
def test_damage_is_named(tmp_path: Path, old: str, new: str, fact: str) -> None:
    with pytest.raises(AnnotationError, match=fact):
        read_elan(written(tmp_path, EAF.replace(old, new)), ["second", "emotion"])


def test_which_tier(eaf: Path) -> None:
    with pytest.raises(AnnotationError, match="several tiers, emotion, second"):
        read_elan(eaf)
    with pytest.raises(AnnotationError, match="no tier mood, but emotion, second, empty"):
        read_elan(eaf, ["mood"])
