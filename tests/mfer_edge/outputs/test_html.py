"""HTML report: its structure, what hostile names can do to it, and its size."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfer_edge.errors import MediaError, OutputError
from mfer_edge.outputs.html import MAX_PEOPLE, MAX_ROWS, clock, html_text, write_html
from mfer_edge.outputs.thumbnails import Thumbnail
from mfer_edge.outputs.webvtt import vtt_text
from mfer_edge.results import Analysis, Track
from tests.support.analyses import LABELS, SEVEN, analysis, reading, scores
from tests.support.html import Document

MANY_TAGS = "</title></script></style><script>alert(1)</script><img src=x onerror=alert(1)>"
HOSTILE = (
    MANY_TAGS,
    "\"'><svg onload=alert(1)>",
    "&lt;b&gt;&amp;&#60;",
    "javascript:alert(1)",
    "<!--",
    "${alert(1)} $title $script",
    "\u2028\u2029\x00\x1b[31m\ud800",
)


def meeting(count: int = 3, seconds: int = 12) -> Analysis:
    """Several faces in windows of 4 s, a second apart; the first has the voice."""
    windows = []
    for start in range(seconds - 3):
        for track in range(count):
            label = SEVEN[(start // 3 + track) % 7]
            shown = scores(label, 0.6, SEVEN)
            windows.append(
                reading(start, start + 4, scores=shown, visual=shown, track=track, main=track == 0,
                        audio=shown if track == 0 else None)
            )  # fmt: skip
    tracks = tuple(Track(track, float(track), float(seconds), 20) for track in range(count))
    return analysis(windows, float(seconds), tracks=tracks)


def data_of(page: Document) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(page.by_id("data").text)
    return data


def rows_of(page: Document, table: str) -> list[list[str]]:
    """Cells of the body of a table."""
    rows: list[list[str]] = []
    inside = False
    for element in page.elements:
        if element.tag == "table":
            inside = element.attributes.get("id") == table
        elif inside and "tbody" in element.parents:
            if element.tag == "tr":
                rows.append([])
            elif element.tag in ("td", "th"):
                rows[-1].append(element.text)
    return rows


class TestStructure:
    def test_page_nests_and_is_named(self) -> None:
        page = Document.of(html_text(meeting()))
        assert page.doctype == "doctype html"
        assert page.all("html")[0].attributes["lang"] == "en"
        assert page.all("title")[0].text == "clip.mp4: emotions"
        assert [len(page.all(tag)) for tag in ("main", "h1", "header")] == [1, 1, 1]
        names = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
        assert len(names) == len(set(names))
        for section in page.all("section"):
            heading = page.by_id(section.attributes["aria-labelledby"] or "")
            assert heading.tag == "h2" and heading.text

    def test_everything_that_can_be_used_has_a_name(self) -> None:
        page = Document.of(html_text(meeting()))
        for element in page.all("button") + page.all("input") + page.all("video"):
            named = element.text or element.attributes.get("aria-label")
            assert named or "label" in element.parents, element

    def test_nothing_comes_from_elsewhere(self) -> None:
        page = Document.of(html_text(meeting(), link="clip.mp4"))
        links = [
            e.attributes[a] for e in page.elements for a in ("src", "href") if a in e.attributes
        ]
        captions = page.by_id("captions").attributes["src"]
        assert sorted(map(str, links)) == sorted(["clip.mp4", str(captions)])
        assert not page.all("link") and "url(" not in page.all("style")[0].text

    def test_only_its_own_script_and_style_may_run(self) -> None:
        page = Document.of(html_text(meeting()))
        (policy,) = [e.attributes["content"] for e in page.all("meta")
                     if e.attributes.get("http-equiv") == "Content-Security-Policy"]  # fmt: skip
        scripts = [e for e in page.all("script") if "type" not in e.attributes]
        for element in [*scripts, *page.all("style")]:
            digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
            assert f"{element.tag}-src 'sha256-{digest}';" in str(policy)
        assert str(policy).startswith("default-src 'none';") and "unsafe" not in str(policy)

    def test_captions_are_those_of_vtt(self) -> None:
        made = meeting()
        source = str(Document.of(html_text(made)).by_id("captions").attributes["src"])
        kind, _, encoded = source.partition(",")
        assert kind == "data:text/vtt;base64"
        assert base64.b64decode(encoded).decode() == vtt_text(made)

    def test_pictures(self) -> None:
        page = Document.of(html_text(meeting(), [Thumbnail(1.25, b"one"), Thumbnail(2.5, b"two")]))
        pictures = [[at, base64.b64decode(jpeg)] for at, jpeg in data_of(page)["pictures"]]
        assert pictures == [[125, b"one"], [250, b"two"]]


class TestContent:
    def test_chart_holds_every_reading(self) -> None:
        made = meeting()
        data = data_of(Document.of(html_text(made)))
        assert data["labels"] == list(SEVEN) and data["duration"] == 12.0
        assert [one["name"] for one in data["people"]] == ["face 0", "face 1", "face 2"]
        assert [one["from"] for one in data["people"]] == [0, 100, 200]
        for track, person in enumerate(data["people"]):
            own = [one for one in made.windows if one.track == track]
            assert [point[0] for point in person["points"]] == list(range(len(own)))
            for (_, view, basis, *shown), one in zip(person["points"], own, strict=True):
                assert view == 1000 and basis == (3 if track == 0 else 1)
                assert shown == [round(1000 * score) for score in (one.scores or {}).values()]
        assert data["spans"][0] == [0, 250, 500] and data["spans"][-1][1] == 1200

    def test_table_of_readings(self) -> None:
        windows = [
            reading(0, 4),
            reading(4, 8),
            reading(8, 12, None),
            reading(12, 16, "sad", track=1),
        ]
        page = Document.of(html_text(analysis(windows, 16.0)))
        assert rows_of(page, "rows") == [
            ["0:00.0", "0:08.0", "face 0", "happy", "79%", "44%", "50%", "face and voice"],
            ["0:08.0", "0:12.0", "no face", "no reading", "", "", "0%", ""],
            ["0:12.0", "0:16.0", "face 1", "sad", "79%", "44%", "50%", "face and voice"],
        ]
        seconds = [e.attributes.get("data-s") for e in page.all("button")]
        assert [one for one in seconds if one] == ["0.00", "8.00", "12.00"]

    def test_table_of_means(self) -> None:
        made = analysis([reading(0, 4, visual=None, audio=scores("sad"))], 4.0)
        rows = {row[0]: row[1:] for row in rows_of(Document.of(html_text(made)), "means")}
        assert list(rows) == list(LABELS)
        assert rows["happy"] == ["79%", "none", "3%"] and rows["sad"] == ["3%", "none", "79%"]

    def test_means_hold_the_voice_that_is_no_faces(self) -> None:
        silent = reading(0, 4, audio=None, speech_s=0.0)
        voice = reading(0, 4, "sad", track=None, visual=None, faces=0, main=False)
        page = Document.of(html_text(analysis([silent, voice], 4.0)))
        rows = {row[0]: row[1:] for row in rows_of(page, "means")}
        assert rows["sad"][2] == "79%" and rows["happy"][1] == "79%"

    def test_window_without_a_reading_is_no_person(self) -> None:
        """It is in the table, and has no charts and no column."""
        page = Document.of(html_text(analysis([reading(0, 4), reading(1, 5, None)], 5.0)))
        assert [one["name"] for one in data_of(page)["people"]] == ["face 0"]
        assert {len(row) for row in rows_of(page, "means")} == {4}  # label, clip, face, voice
        assert rows_of(page, "rows")[1][2:4] == ["no face", "no reading"]

    def test_warnings_are_listed(self) -> None:
        page = Document.of(html_text(analysis([reading(0, 4)], 4.0, warnings=("one", "two"))))
        assert [e.text for e in page.all("li") if "header" in e.parents] == ["one", "two"]

    @pytest.mark.parametrize("windows", [[], [reading(0, 4, None)]], ids=["none", "without scores"])
    def test_clip_without_readings(self, windows: list) -> None:
        page = Document.of(html_text(analysis(windows, 4.0, tracks=(), overall=None)))
        assert "neither a face nor speech" in page.all("header")[0].text

    @pytest.mark.parametrize(
        ("time_s", "expected"),
        [(0, "0:00.0"), (59.96, "1:00.0"), (3599.94, "59:59.9"), (3723.4, "1:02:03")],
    )
    def test_clock(self, time_s: float, expected: str) -> None:
        assert clock(time_s) == expected


class TestHostileTexts:
    def check(self, text: str, plain: str) -> None:
        """Compare the elements of a page with those of a page with harmless names."""
        page, other = Document.of(text), Document.of(plain)
        shape = [(e.tag, sorted(e.attributes), e.parents) for e in page.elements]
        assert shape == [(e.tag, sorted(e.attributes), e.parents) for e in other.elements]
        assert [e.text for e in page.all("script")][1:] == [e.text for e in other.all("script")][1:]
        assert not re.search("[\x00\x1b\u202e\ud800-\udfff]", text)
        text.encode()
        data_of(page)

    @pytest.mark.parametrize("name", HOSTILE)
    def test_no_name_adds_an_element(self, name: str) -> None:
        def made(text: str) -> str:
            labels = (text, "happy")
            shown = scores(text, 0.9, labels)
            one = reading(0, 4, scores=shown, visual=shown, audio=shown)
            named = analysis(
                [one], 4.0, source=text.replace("/", "_"), warnings=(text,), device=text
            )
            bundle = replace(named.bundle, name=text, precision=text, labels=labels)
            return html_text(replace(named, bundle=bundle), link="clip.mp4")

        self.check(made(name), made("harmless"))

    @settings(max_examples=25)
    @given(st.text(st.characters(), max_size=60))
    def test_nor_does_any_text(self, name: str) -> None:
        def made(text: str) -> str:
            return html_text(analysis([reading(0, 4)], 4.0, source=f"a{text}", warnings=(text,)))

        self.check(made(name), made("harmless"))

    @pytest.mark.parametrize(
        "name",
        ["a b#?%.mp4", "javascript:alert(1).mp4", '"onerror=x.mp4', b"\xff\xfe.mp4", "é.mp4"],
    )
    def test_link_leads_to_the_file(self, tmp_path: Path, anger: Path, name: str | bytes) -> None:
        clip = tmp_path / os.fsdecode(name)
        shutil.copy(anger, clip)
        (tmp_path / "reports").mkdir()
        out = tmp_path / "reports" / "out.html"
        write_html(analysis([reading(0, 4)], 4.0), out, clip=clip)
        link = str(Document.of(out.read_text("utf-8")).by_id("video").attributes["src"])
        assert re.fullmatch(r"\.\./[\w.%()-]+", link, re.ASCII)
        path = os.fsdecode(
            unquote(link, errors="surrogateescape").encode("utf-8", "surrogateescape")
        )
        assert (out.parent / path).resolve() == clip


class TestFile:
    def test_pictures_and_link_of_a_clip(self, tmp_path: Path, anger: Path) -> None:
        clip = Path(shutil.copy(anger, tmp_path / "clip.mp4"))
        write_html(analysis([reading(0, 4.1)], 4.1), tmp_path / "out.html", clip=clip)
        page = Document.of((tmp_path / "out.html").read_text("utf-8"))
        assert page.by_id("video").attributes["src"] == "clip.mp4"
        assert len(data_of(page)["pictures"]) == 8
        assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "out.html"]

    @pytest.mark.parametrize("clip", [None, "http://host/clip.mp4?token=secret"])
    def test_without_a_file(self, tmp_path: Path, clip: str | None) -> None:
        made = analysis([reading(0, 4)], 4.0)
        write_html(made, tmp_path / "out.html", clip=clip)
        text = (tmp_path / "out.html").read_text("utf-8")
        assert text == html_text(made) and "secret" not in text
        assert "src" not in Document.of(text).by_id("video").attributes

    def test_file_that_does_not_stay(self, tmp_path: Path, anger: Path) -> None:
        write_html(analysis([reading(0, 4)], 4.0), tmp_path / "a.htm", clip=anger, linked=False)
        page = Document.of((tmp_path / "a.htm").read_text("utf-8"))
        assert data_of(page)["pictures"] and "src" not in page.by_id("video").attributes

    def test_clip_that_is_gone(self, tmp_path: Path) -> None:
        with pytest.raises(MediaError, match=r"gone\.mp4"):
            write_html(meeting(), tmp_path / "out.html", clip=tmp_path / "gone.mp4")
        assert not list(tmp_path.iterdir())

    def test_name_of_another_kind(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match=r"\.html or \.htm"):
            write_html(meeting(), tmp_path / "out.pdf")


class TestSize:
    @pytest.mark.parametrize(("count", "hop"), [(1, 1), (40, 20)])
    def test_an_hour_is_about_a_megabyte(self, count: int, hop: int) -> None:
        random.seed(count)
        kinds = [scores(label, random.uniform(0.2, 0.99), SEVEN) for label in SEVEN * 9]
        windows = []
        for start in range(0, 3597, hop):
            for track in range(count):
                shown = random.choice(kinds)
                windows.append(reading(start, start + 4, scores=shown, visual=shown, audio=shown,
                                       track=track, main=track == 0))  # fmt: skip
        tracks = tuple(Track(track, 0.0, 3600.0, 9) for track in range(count))
        pictures = [Thumbnail(60.0 * number, bytes(5500)) for number in range(60)]
        text = html_text(analysis(windows, 3600.0, tracks=tracks), pictures)
        assert 600_000 < len(text.encode()) < 1_150_000
        page = Document.of(text)
        assert len(rows_of(page, "rows")) == MAX_ROWS + 1
        data = data_of(page)
        assert len(data["people"]) == min(count, MAX_PEOPLE)
        assert sum(len(one["points"]) for one in data["people"]) <= 4100
        assert ("16 more faces" in text) == (count == 40)
        assert data["spans"][0][0] == 0 and data["spans"][-1][1] > 358_000
