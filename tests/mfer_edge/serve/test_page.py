"""The page in a real browser, with a sample clip as its camera and microphone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfer_edge.isolation.pool import IsolatedPool
from mfer_edge.live.sources import LiveChoice
from mfer_edge.pipeline import Pipeline
from mfer_edge.serve.options import ServeOptions
from tests.support.footage import repeat
from tests.support.serving import Served, serving, web_server

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from tests.support.browser import (  # noqa: E402
    Cable,
    browser,
    chromium,
    opened,
    violations,
    wait_for,
    wait_for_ink,
    wait_for_text,
    write_camera,
)

Page = playwright.Page
PHONE = (360, 740)


@pytest.fixture(scope="module")
def driver() -> Iterator[playwright.Playwright]:
    """What drives browsers; skips the tests where there is none."""
    chromium()
    with playwright.sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def angry(
    driver: playwright.Playwright, anger: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[playwright.Browser]:
    """A browser that sees the anger clip."""
    with browser(driver, write_camera(anger, tmp_path_factory.mktemp("camera"))) as started:
        yield started


def overflow(page: Page) -> list[str]:
    """Elements that reach over the sides of the viewport, and texts that are cut off."""
    script = """() => {
      const found = [];
      const width = document.documentElement.clientWidth;
      for (const one of document.querySelectorAll("body *")) {
        if (one.closest(".hidden, .scroll, .segments input") || !one.checkVisibility()) continue;
        const box = one.getBoundingClientRect();
        const hides = getComputedStyle(one).overflow === "hidden";
        const clips = hides && one.scrollWidth > one.clientWidth + 1;
        if (box.width && (box.right > width + 1 || box.left < -1 || clips)) {
          found.push(`${one.tagName} ${one.id} ${one.className} ${Math.round(box.right)}`);
        }
      }
      return found;
    }"""
    return list(page.evaluate(script))


def overlaps(page: Page) -> list[str]:
    """Pairs of texts and controls that lie over each other."""
    script = """() => {
      const kinds = "h1, h2, p, button, th, td, dt, dd, summary, li, a, legend";
      const seen = (one) => one.checkVisibility() && !one.closest(".hidden, .scroll");
      const texts = [...document.querySelectorAll(kinds)]
        .filter((one) => seen(one) && one.innerText?.trim());
      const found = [];
      for (const [index, one] of texts.entries()) {
        const a = one.getBoundingClientRect();
        for (const other of texts.slice(index + 1)) {
          if (one.contains(other) || other.contains(one)) continue;
          const b = other.getBoundingClientRect();
          const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
          const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
          if (wide > 1 && high > 1) found.push(`${one.innerText} / ${other.innerText}`);
        }
      }
      return found;
    }"""
    return list(page.evaluate(script))


def wait_for_reading(page: Page) -> None:
    """Wait for one more reading than there are now."""
    known = page.locator("#readings tbody tr").count()
    script = "([known]) => document.querySelectorAll('#readings tbody tr').length > known"
    wait_for(page, script, known)


def check_looks(page: Page) -> None:
    assert overflow(page) == []
    assert overlaps(page) == []
    assert violations(page) == []


class TestCamera:
    def test_shows_what_infer_says(
        self, served: Served, angry: playwright.Browser, once: Pipeline, anger: Path
    ) -> None:
        analysis = once.analyze(anger).overall
        assert analysis is not None and analysis.label == "angry"
        with opened(angry, served.address) as (page, errors):
            check_looks(page)
            page.click("#start")
            wait_for_text(page, "#label", "^angry$")
            wait_for_text(page, "#basis", "^from face and voice$")
            wait_for_text(page, "#inview", "^1 face$")
            wait_for_text(page, "#lag", r"^(\d+ ms|\d+ s)$")
            wait_for_text(page, "#people", r"Face \d+: angry \d+%")
            wait_for_text(page, ".scores tr.top th", "^angry$")
            page.click("text=Readings as a table")
            wait_for_text(page, "#readings tbody tr", "face and voice")
            wait_for_ink(page, "#boxes")
            wait_for_ink(page, "#chart")
            check_looks(page)
            page.click("#start")
            wait_for_text(page, "#status", "^Stopped")
            assert page.inner_text("#start") == "Start"
            assert errors == []

    def test_the_other_clip(
        self,
        served: Served,
        driver: playwright.Playwright,
        once: Pipeline,
        fear: Path,
        tmp_path: Path,
    ) -> None:
        analysis = once.analyze(fear).overall
        assert analysis is not None and analysis.label == "fearful"
        with (
            browser(driver, write_camera(fear, tmp_path)) as started,
            opened(started, served.address, size=PHONE, scheme="dark") as (page, errors),
        ):
            page.click("#start")
            wait_for_text(page, "#label", "^fearful$")
            check_looks(page)
            assert errors == []

    def test_a_recording_can_be_saved(self, served: Served, angry: playwright.Browser) -> None:
        with opened(angry, served.address) as (page, errors):
            page.check("#everyone")
            page.click("#start")
            wait_for_text(page, "#status", "^Connected")
            page.click("#record")
            assert page.get_attribute("#record", "aria-pressed") == "true"
            wait_for_reading(page)
            wait_for_text(page, "#label", "^angry$")
            page.click("#record")
            wait_for_text(page, "#recorded", "on the whole angry")
            names = page.eval_on_selector_all(
                "#recording-files a", "all => all.map(a => a.download)"
            )
            assert names == [f"recording.{kind}" for kind in ("json", "csv", "vtt", "html", "png")]
            with page.expect_download() as download:
                page.click("text=Save JSON")
            analysis = json.loads(Path(download.value.path()).read_text())
            assert analysis["schema"] == 1 and analysis["overall"]["label"] == "angry"
            check_looks(page)
            assert errors == []

    def test_a_lost_connection_comes_back(self, served: Served, angry: playwright.Browser) -> None:
        with Cable(served.port) as cable:
            address = f"http://127.0.0.1:{cable.port}"
            with opened(angry, address) as (page, errors):
                page.click("#start")
                wait_for_text(page, "#label", "^angry$")
                assert errors == []
                cable.pull()
                wait_for_text(page, "#status", "^Connection lost")
                cable.plug()
                wait_for_text(page, "#status", "^Connected")
                wait_for_reading(page)
                wait_for_text(page, "#label", "^angry$")
                assert page.inner_text("#alert") == ""

    def test_all_places_taken_is_told(self, served: Served, angry: playwright.Browser) -> None:
        with (
            served.stream({}), served.stream({}), served.stream({}), served.stream({}),
            opened(angry, served.address) as (page, _),
        ):  # fmt: skip
            page.click("#start")
            wait_for_text(page, "#status", "^All 4 live sessions are taken")

    def test_a_browser_without_a_camera_says_so(
        self, served: Served, driver: playwright.Playwright
    ) -> None:
        with browser(driver) as started, opened(started, served.address) as (page, _):
            page.click("#start")
            wait_for_text(page, "#alert", "^There is no camera and no microphone")
            assert page.inner_text("#start") == "Start"
            check_looks(page)


class TestClip:
    def test_an_upload_gives_its_result(
        self, served: Served, angry: playwright.Browser, anger: Path, once: Pipeline
    ) -> None:
        with opened(angry, served.address, scheme="dark") as (page, errors):
            page.check("input[value=clip]")
            check_looks(page)
            page.set_input_files("#file", str(anger))
            wait_for_text(page, "#result-label", "^angry$")
            analysis = once.analyze(anger)
            assert analysis.overall is not None
            score = f"{analysis.overall.scores['angry']:.0%}"
            assert page.inner_text("#result-basis") == f"{score}, from face and voice"
            assert page.inner_text("#result-name") == "anger.mp4, 4.14 s"
            assert page.evaluate("document.activeElement.id") == "result-name"
            wait_for_ink(page, "#result-chart")
            assert page.locator("#result-files a").count() == 5
            check_looks(page)
            assert errors == []

    def test_everyone_in_a_clip(
        self, served: Served, angry: playwright.Browser, pair: Path
    ) -> None:
        with opened(angry, served.address, size=PHONE) as (page, errors):
            page.check("input[value=clip]")
            page.set_input_files("#file", str(pair))
            wait_for_text(page, "#result-basis", "; 1 more in view not read: choose “Everyone")
            assert page.locator("#result-readings tbody tr").count() == 1
            page.check("#clip-everyone")
            page.set_input_files("#file", [str(pair)])
            page.set_input_files("#file", str(pair))  # one at a time
            wait_for_text(page, "#alert", "^pair.mp4 was not taken: wait")
            wait_for_text(page, "#result-basis", "voice$")
            assert page.locator("#result-readings tbody tr").count() >= 2
            check_looks(page)
            assert errors == []

    def test_a_clip_can_be_dropped(
        self, served: Served, angry: playwright.Browser, moment: Path
    ) -> None:
        with opened(angry, served.address, size=PHONE) as (page, errors):
            page.check("input[value=clip]")
            page.evaluate(
                """(bytes) => {
                  const transfer = new DataTransfer();
                  transfer.items.add(new File([new Uint8Array(bytes)], "moment.mp4"));
                  const how = { dataTransfer: transfer, bubbles: true, cancelable: true };
                  document.getElementById("drop").dispatchEvent(new DragEvent("drop", how));
                }""",
                list(moment.read_bytes()),
            )
            wait_for_text(page, "#result-label", "^\\w+$")
            check_looks(page)
            assert errors == []

    def test_what_is_no_clip_is_told(
        self, served: Served, angry: playwright.Browser, tmp_path: Path
    ) -> None:
        bad = tmp_path / "bad.wav"
        bad.write_bytes(b"RIFF....WAVE" + bytes(2000))
        with opened(angry, served.address) as (page, errors):
            page.check("input[value=clip]")
            page.set_input_files("#file", str(bad))
            wait_for_text(page, "#alert", "^bad.wav: ")
            assert page.is_hidden("#result") and page.is_hidden("#upload")
            check_looks(page)
            assert errors == []


class TestWatch:
    def test_shows_what_the_server_sees(
        self,
        once: Pipeline,
        isolated: IsolatedPool,
        angry: playwright.Browser,
        anger: Path,
        tmp_path: Path,
    ) -> None:
        repeat(anger, tmp_path / "street.mkv", 2)
        with web_server(tmp_path) as address:
            source = LiveChoice(url=f"{address}/street.mkv")
            with (
                serving(once, isolated, ServeOptions(port=0), (source,)) as server,
                opened(angry, server.address, size=PHONE) as (page, errors),
            ):
                page.check("input[value='0']")
                assert page.is_hidden("#everyone-label")
                page.click("#start")
                wait_for_text(page, "#label", "^angry$")
                wait_for_ink(page, "#picture")
                wait_for_ink(page, "#boxes")
                check_looks(page)
                assert errors == []


class TestPatience:
    def test_a_browser_that_never_answers_fails_the_test(
        self, served: Served, driver: playwright.Playwright
    ) -> None:
        """`evaluate` itself waits forever."""
        with (
            browser(driver) as started,
            pytest.raises(pytest.fail.Exception, match="not answered in 3 s"),
            opened(started, served.address, limit_s=3.0) as (page, _),
        ):
            page.evaluate("new Promise(() => {})")


class TestKeyboard:
    def test_all_can_be_reached_and_used(self, served: Served, angry: playwright.Browser) -> None:
        with opened(angry, served.address) as (page, _):
            reached = []
            for _ in range(8):
                page.keyboard.press("Tab")
                reached.append(
                    page.evaluate("document.activeElement.id || document.activeElement.tagName")
                )
            assert reached[:4] == ["INPUT", "start", "everyone", "SUMMARY"]
            page.focus("#start")
            page.keyboard.press("Enter")
            wait_for_text(page, "#status", "^Connected")
            page.focus("input[value=camera]")
            page.keyboard.press("ArrowRight")
            assert page.is_visible("#drop") and page.is_hidden("#live")
