"""Live sessions in processes of their own: the same readings, and what is left when one is lost."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mfer_edge.bundle import Bundle
from mfer_edge.errors import BundleError, CrashError, HangError, MferError
from mfer_edge.isolation.worker import WorkerSetup
from mfer_edge.live import pool as pools
from mfer_edge.live.events import FacesSeen, LiveReading
from mfer_edge.live.host import Call, answered
from mfer_edge.live.pool import RemoteSession, SessionPool, default_processes
from mfer_edge.live.session import LiveSession
from mfer_edge.options import SessionOptions
from mfer_edge.pipeline import Pipeline
from mfer_edge.session import Session
from mfer_edge.sources.base import AudioChunk, Frame
from tests.support.serving import items_of
from tests.support.sessions import NOBODY

SETUP = WorkerSetup(device="cpu", threads=1)
SHORT = SessionOptions(1.0, 0.5)
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def pool() -> Iterator[SessionPool]:
    with SessionPool(SETUP, processes=2) as opened:
        yield opened


def ended(pid: int) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class TestReadings:
    def test_are_those_of_the_file(
        self, pool: SessionPool, pipeline: Pipeline, anger: Path
    ) -> None:
        items, duration_s = items_of(anger)
        live = LiveSession(pipeline, SHORT, keep_detections=True, backend=pool)

        def feed() -> None:
            for item in items:
                live.put(item, wait=True)
            live.end(duration_s)

        thread = threading.Thread(target=feed)
        thread.start()
        events = list(live.events())
        thread.join()
        expected = pipeline.analyze(anger, SHORT, keep_detections=True)
        found = tuple(event.reading for event in events if isinstance(event, LiveReading))
        assert found == expected.windows
        assert live.tracks() == expected.tracks
        faces = [face for event in events if isinstance(event, FacesSeen) for face in event.faces]
        assert tuple(faces) == expected.detections
        assert live.stats().audio_s == pytest.approx(duration_s, abs=0.1)

    def test_many_at_once_are_not_mixed_up(
        self, pool: SessionPool, pipeline: Pipeline, moment: Path, pair: Path
    ) -> None:
        clips = [moment, pair] * 3
        expected = {clip: pipeline.analyze(clip, SHORT).windows for clip in set(clips)}
        found: dict[int, object] = {}

        def read(index: int, clip: Path) -> None:
            items, duration_s = items_of(clip)
            session = pool.session(SHORT)
            for item in items:
                session.push(item)
                session.prepare()
            session.close(duration_s)
            found[index] = tuple(session.readings())

        threads = [threading.Thread(target=read, args=numbered) for numbered in enumerate(clips)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert expected[moment] != expected[pair]
        assert found == {index: expected[clip] for index, clip in enumerate(clips)}

    def test_options_that_cannot_be(self, pool: SessionPool) -> None:
        with pytest.raises(ValueError, match="window"):
            pool.session(SessionOptions(100.0, 0.5))

    def test_an_item_that_cannot_be_ends_nothing(self, pool: SessionPool) -> None:
        session = pool.session(SHORT)
        pids = pool.pids
        with pytest.raises(ValueError, match="uint8"):
            session.push(Frame(0.0, np.zeros((4, 4))))
        session.push(AudioChunk(np.zeros(1600, np.float32)))
        assert session.audio_s == pytest.approx(0.1)
        assert pool.pids == pids


class TestProcesses:
    def test_start_as_sessions_come(self) -> None:
        with SessionPool(SETUP, processes=2) as pool:
            assert len(pool.pids) == 1
            first = pool.session(SHORT)
            assert len(pool.pids) == 1
            second, third = pool.session(SHORT), pool.session(SHORT)
            assert len(pool.pids) == 2
            assert pool.resident_bytes > 2 * 50_000_000
            held = [worker.sessions for worker in pool._workers]
            assert sorted(held) == [1, 2]
            del first, second, third
            gc.collect()
            assert [worker.sessions for worker in pool._workers] == [0, 0]
            pids = pool.pids
        assert all(map(ended, pids))

    def test_a_session_that_nobody_holds_is_dropped(self, pipeline: Pipeline) -> None:
        sessions: dict[int, Session] = {}
        answered(pipeline, sessions, Call(0, "open", (SHORT,)))
        answered(pipeline, sessions, Call(1, "open", (SHORT,)))
        answered(pipeline, sessions, Call(1, "push", (Frame(0.0, NOBODY),), dropped=(0, 7)))
        assert list(sessions) == [1]

    def test_a_lost_one_is_replaced(self, pipeline: Pipeline) -> None:
        with SessionPool(SETUP, processes=1) as pool:
            session, other = pool.session(SHORT), pool.session(SHORT)
            os.kill(pool.pids[0], signal.SIGKILL)
            for lost in (session, other):
                with pytest.raises(CrashError, match=r"live session was killed \(SIGKILL\)"):
                    lost.push(Frame(0.0, NOBODY))
            pool.session(SHORT).push(Frame(0.0, NOBODY))

    def test_one_that_hangs_is_ended(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with SessionPool(SETUP, processes=1) as pool:
            session = pool.session(SHORT)
            [pid] = pool.pids
            monkeypatch.setattr(pools, "CALL_TIMEOUT_S", 0.2)
            os.kill(pid, signal.SIGSTOP)
            with pytest.raises(HangError, match=r"hung for 0\.2 s"):
                session.push(Frame(0.0, NOBODY))
            assert ended(pid)

    def test_one_that_is_busy_is_not(self, monkeypatch: pytest.MonkeyPatch, anger: Path) -> None:
        """Many calls wait for longer than one may take."""
        items, _ = items_of(anger)
        frames = [item for item in items if isinstance(item, Frame)][:5]
        with SessionPool(SETUP, processes=1) as pool:
            sessions = [pool.session(SHORT) for _ in range(24)]
            monkeypatch.setattr(pools, "CALL_TIMEOUT_S", 0.2)

            def push(session: RemoteSession) -> None:
                for frame in frames:
                    session.push(frame)

            with ThreadPoolExecutor(len(sessions)) as threads:
                list(threads.map(push, sessions))

    def test_a_fault_of_ours_is_a_line(self) -> None:
        with SessionPool(SETUP, processes=1) as pool:
            session = pool.session(SHORT)
            [pid] = pool.pids
            with pytest.raises(CrashError, match="failed: AttributeError: "):
                session.push(None)  # type: ignore[arg-type]
            assert ended(pid)

    def test_closing_ends_who_waits(self) -> None:
        pool = SessionPool(SETUP, processes=1)
        session = pool.session(SHORT)
        failed: list[MferError] = []
        os.kill(pool.pids[0], signal.SIGSTOP)

        def push() -> None:
            try:
                session.push(Frame(0.0, NOBODY))
            except MferError as error:
                failed.append(error)

        thread = threading.Thread(target=push)
        thread.start()
        pool.close()
        thread.join(PATIENCE_S)
        assert failed
        with pytest.raises(MferError, match="closed"):
            pool.session(SHORT)

    def test_a_bundle_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(BundleError):
            SessionPool(replace(SETUP, bundle=tmp_path), processes=2)


class TestDefault:
    @pytest.mark.parametrize(
        ("device", "threads", "processes"),
        [("cpu", 1, 0), ("cpu", 2, 2), ("cpu", 8, 8), ("cuda", 8, 0), ("tensorrt", 8, 0)],
    )
    def test_one_per_thread_of_the_cpu(
        self, pipeline: Pipeline, device: str, threads: int, processes: int
    ) -> None:
        assert default_processes(pipeline.bundle, device, threads) == processes

    def test_none_for_a_large_model(self, pipeline: Pipeline) -> None:
        bundle = pipeline.bundle
        engines = {
            name: replace(engine, bytes=engine.bytes + 50_000_000)
            for name, engine in bundle.manifest.engines.items()
        }
        large = Bundle(bundle.folder, replace(bundle.manifest, engines=engines), bundle.sha256)
        assert default_processes(large, "cpu", 8) == 0
