"""The HTML report in a real browser, opened from the disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfer_edge.outputs.html import write_html
from mfer_edge.results import Track
from tests.support.analyses import SEVEN, analysis, reading, scores

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from tests.support.browser import browser, chromium, opened, violations  # noqa: E402

Page = playwright.Page
HOSTILE = "</script><script>document.title='broken'</script><img src=x onerror=alert(1)>"
OVERFLOW = """() => [...document.querySelectorAll("body *")].filter((one) => {
  const box = one.getBoundingClientRect();
  return box.width && one.checkVisibility() && !one.closest(".scroll")
    && (box.right > innerWidth + 1 || box.left < -1);
}).map((one) => one.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def chrome() -> Iterator[playwright.Browser]:
    """Chromium; skips the tests where there is none."""
    chromium()
    with playwright.sync_playwright() as driver, browser(driver) as started:
        yield started


@pytest.fixture(scope="module")
def report(anger: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report beside its clip, which has a hostile name in it and two people."""
    folder = tmp_path_factory.mktemp("report")
    clip = Path(shutil.copy(anger, folder / "a #1%.mp4"))
    windows = []
    for index, (one, other) in enumerate(
        [("angry", "sad"), ("angry", "happy"), ("fearful", "happy")]
    ):
        for track, label in enumerate((one, other)):
            shown = scores(label, 0.7, SEVEN)
            windows.append(
                reading(index, index + 2, scores=shown, visual=shown, audio=None, track=track,
                        main=track == 0)
            )  # fmt: skip
    tracks = (Track(0, 0.0, 4.0, 20), Track(1, 0.5, 3.0, 20))
    made = analysis(windows, 4.14, tracks=tracks, warnings=(HOSTILE,), source=f"x{HOSTILE}")
    write_html(made, folder / "out.html", clip=clip)
    return folder / "out.html"


def wait_for_clip(page: Page) -> None:
    page.wait_for_selector("html[data-clip]")


def now(page: Page) -> list[str]:
    return [str(text) for text in page.locator("#now li").all_inner_texts()]


def test_plays_the_clip_and_seeks_by_keyboard(chrome: playwright.Browser, report: Path) -> None:
    with opened(chrome, report.as_uri()) as (page, errors):
        wait_for_clip(page)
        assert now(page)[0].startswith("face 0: angry 70%, from face, uncertainty ")
        for keys, time_s, first, second in (
            (["ArrowRight"], 1.0, "angry", "sad"),
            (["ArrowRight", "ArrowRight"], 3.0, "fearful", "happy"),
            (["ArrowLeft"], 2.0, "angry", "happy"),
            (["Shift+ArrowRight"], 4.14, "fearful", "happy"),
            (["Home"], 0.0, "angry", "sad"),
        ):
            for key in keys:
                page.keyboard.press(key)
            at = page.evaluate("document.getElementById('video').currentTime")
            assert at == pytest.approx(time_s, abs=0.1)
            shown = now(page)
            assert shown[0].startswith(f"face 0: {first}") and f"face 1: {second}" in shown[1]
            spoken = page.locator("#seek").get_attribute("aria-valuetext") or ""
            assert "; ".join(shown) in spoken
        page.keyboard.press("Space")
        page.wait_for_selector("#play:text-is('Pause')")
        page.wait_for_selector("#clock:not(:has-text('0:00.'))")
        page.keyboard.press("Space")
        page.wait_for_selector("#play:text-is('Play')")
        assert errors == []


def test_captions_are_shown(chrome: playwright.Browser, report: Path) -> None:
    with opened(chrome, report.as_uri()) as (page, errors):
        wait_for_clip(page)
        page.evaluate("""() => new Promise((done) => {
          const track = document.getElementById("captions");
          if (track.readyState >= 2) done();
          for (const name of ["load", "error"]) track.addEventListener(name, done);
        })""")
        cues = "[...document.getElementById('video').textTracks[0].cues].map((one) => one.text)"
        assert page.evaluate(cues)[0] == "angry 70% (face 0)\nsad 70% (face 1)"
        mode = page.evaluate("document.getElementById('video').textTracks[0].mode")
        assert mode == "showing" and errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1200, 900), (360, 740)], ids=["desktop", "phone"])
def test_accessible_and_nothing_sticks_out(
    chrome: playwright.Browser, report: Path, size: tuple[int, int], scheme: str
) -> None:
    with opened(chrome, report.as_uri(), size=size, scheme=scheme) as (page, errors):
        wait_for_clip(page)
        page.locator("summary").click()
        assert violations(page) == []
        assert page.evaluate(OVERFLOW) == []
        assert page.title().startswith("script>") and page.locator("main img[src=x]").count() == 0
        assert errors == []


def test_charts_are_drawn_and_one_label_can_stand_alone(
    chrome: playwright.Browser, report: Path
) -> None:
    pixels = """() => {
      const canvas = document.querySelector("canvas[aria-label='Scores over time, face 0']");
      const copy = new OffscreenCanvas(1, canvas.height);
      const context = copy.getContext("2d", { willReadFrequently: true });
      context.drawImage(canvas, -(canvas.width >> 2), 0);
      const { data } = context.getImageData(0, 0, 1, canvas.height);
      let count = 0;
      for (let at = 0; at < data.length; at += 4) {
        count += data[at] === 0xd5 && data[at + 1] === 0x5e && data[at + 2] === 0;
      }
      return [count / canvas.height, canvas.width];
    }"""
    with opened(chrome, report.as_uri()) as (page, errors):
        share, width = page.evaluate(pixels)
        assert share == pytest.approx(0.7, abs=0.03)
        page.get_by_role("button", name="sad").click()
        assert page.evaluate(pixels)[0] == 0
        page.get_by_role("button", name="angry").click()
        assert page.evaluate(pixels)[0] == pytest.approx(0.7, abs=0.03)
        page.get_by_role("button", name="Zoom in").click()
        assert page.evaluate(pixels)[1] == pytest.approx(2 * width, abs=2)
        assert errors == []


def test_the_table_and_the_pointer_seek(chrome: playwright.Browser, report: Path) -> None:
    with opened(chrome, report.as_uri()) as (page, errors):
        wait_for_clip(page)
        page.locator("summary").click()
        page.locator("#rows button[data-s='2.50']").click()
        assert page.inner_text("#clock").startswith("0:02.5")
        box = page.locator("#lanes").bounding_box()
        assert box is not None
        page.locator("#lanes").click(position={"x": box["width"] / 2, "y": 60})
        assert page.inner_text("#clock").startswith("0:02.1")
        assert errors == []


def test_works_without_the_clip(
    chrome: playwright.Browser, report: Path, tmp_path: Path, anger: Path
) -> None:
    alone = Path(shutil.copy(report, tmp_path))
    with opened(chrome, alone.as_uri()) as (page, errors):
        page.wait_for_selector("#missing:visible")
        assert "not beside this report" in page.inner_text("#why")
        assert not page.is_visible("#video") and page.is_disabled("#play")
        first = page.get_attribute("#still", "src")
        page.keyboard.press("End")
        assert page.is_visible("#still") and page.get_attribute("#still", "src") != first
        assert now(page)[0].startswith("face 0: fearful")
        page.set_input_files("#file", anger)
        wait_for_clip(page)
        assert page.is_visible("#video") and not page.is_visible("#missing")
        assert [error for error in errors if "ERR_FILE_NOT_FOUND" not in error] == []
