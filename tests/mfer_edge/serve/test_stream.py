"""`WS /v1/stream`."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from mfer_edge.isolation.pool import IsolatedPool
from mfer_edge.outputs.json import reading_dict
from mfer_edge.pipeline import Pipeline
from mfer_edge.serve.options import Limits, ServeOptions
from mfer_edge.sources.base import AudioChunk, Frame
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.serving import IMAGE, PCM_F32, PCM_S16, Client, Served, items_of, png, serving

OURS = (
    "type",
    "compute_s",
    "lag_s",
    "dropped",
)  # fields of a reading's message that are not in JSON
PATIENCE_S = 30.0


def readings(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Readings as in the JSON of `infer`."""
    return [
        {key: value for key, value in message.items() if key not in OURS}
        for message in messages
        if message["type"] == "reading"
    ]


def eventually(fact: Callable[[], bool]) -> None:
    """Wait for what happens in the server's thread."""
    deadline = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def refusal(client: Client) -> tuple[int, str]:
    """Close code and reason of a session that the server ends."""
    with pytest.raises(ConnectionClosed) as ended:
        while True:
            client.next()
    assert ended.value.rcvd is not None
    return ended.value.rcvd.code, ended.value.rcvd.reason


class TestReplay:
    def test_equals_the_file(self, served: Served, once: Pipeline, long: Path) -> None:
        items, duration_s = items_of(long)
        with served.stream({"drop": False}) as client:
            client.feed(items)
            client.tell({"type": "end", "duration_s": duration_s})
            messages = client.until("end")
        expected = once.analyze(long, keep_detections=True)
        assert len(expected.windows) == 5
        assert readings(messages) == [reading_dict(reading) for reading in expected.windows]
        boxes = [
            (message["time_s"], face["track"], face["left"], face["bottom"])
            for message in messages
            if message["type"] == "faces"
            for face in message["faces"]
        ]
        assert boxes == [
            (round(d.time_s, 3), d.track, round(d.left, 1), round(d.bottom, 1))
            for d in expected.detections
        ]
        assert messages[-1]["dropped"] == 0
        assert messages[-1]["frames"] == sum(isinstance(item, Frame) for item in items)

    def test_every_face(self, served: Served, once: Pipeline, pair: Path) -> None:
        items, duration_s = items_of(pair)
        with served.stream({"drop": False, "faces": "all"}) as client:
            client.feed(items)
            client.tell({"type": "end", "duration_s": duration_s})
            messages = client.until("end")
        expected = once.analyze(pair, once.options(faces="all"))
        assert {reading["track"] for reading in readings(messages)} >= {0, 1}
        assert readings(messages) == [reading_dict(reading) for reading in expected.windows]

    @pytest.mark.parametrize("kept", [Frame, AudioChunk])
    def test_face_or_voice_alone(self, served: Served, moment: Path, kept: type) -> None:
        items, _ = items_of(moment)
        start = {"drop": False, "video": kept is Frame, "audio": kept is AudioChunk}
        with served.stream(start) as client:
            client.feed([item for item in items if isinstance(item, kept)])
            client.tell({"type": "end"})
            [reading] = readings(client.until("end"))
        assert reading["modalities"] == ["visual" if kept is Frame else "audio"]

    def test_sixteen_bits_read_the_same(self, served: Served, moment: Path) -> None:
        items, _ = items_of(moment)
        audio = np.concatenate([item.samples for item in items if isinstance(item, AudioChunk)])
        labels = []
        for kind, samples in (
            (PCM_F32, audio.astype("<f4")),
            (PCM_S16, (audio * 32767).round().astype("<i2")),
        ):
            with served.stream({"video": False}) as client:
                client.send(kind, 0, samples.tobytes())
                client.tell({"type": "end"})
                labels.append([reading["label"] for reading in readings(client.until("end"))])
        assert labels[0] == labels[1] and len(labels[0]) == 1

    def test_lost_audio_is_silence(self, served: Served, moment: Path) -> None:
        items, _ = items_of(moment)
        audio = np.concatenate([item.samples for item in items if isinstance(item, AudioChunk)])
        with served.stream({"video": False}) as client:
            client.send(PCM_F32, 3 * SAMPLE_RATE, audio.tobytes())
            client.tell({"type": "end"})
            messages = client.until("end")
        assert messages[-1]["audio_s"] == pytest.approx(3 + len(audio) / SAMPLE_RATE, abs=1e-3)


class TestRecording:
    def test_holds_the_readings_between_start_and_stop(self, served: Served, long: Path) -> None:
        items, _ = items_of(long)
        first = [item for item in items if isinstance(item, AudioChunk) or item.time_s < 6]
        rest = [item for item in items if isinstance(item, Frame) and item.time_s >= 6]
        with served.stream({"drop": False}) as client:
            client.feed(first)
            before = client.until("reading")
            while readings(before)[-1]["end_s"] < 5:
                before += client.until("reading")
            client.tell({"type": "record", "on": True})
            client.feed(rest)
            client.tell({"type": "record", "on": False})
            messages = client.until("recording")
        recording = messages[-1]["analysis"]
        recorded = readings(messages)
        shift_s = recorded[0]["start_s"]
        assert shift_s >= 2  # the windows from 0 and 1 s on were before
        assert recording["schema"] == 1 and recording["source"] == "live"
        assert [w["scores"] for w in recording["windows"]] == [r["scores"] for r in recorded]
        assert recording["windows"][0]["start_s"] == 0
        assert recording["duration_s"] == pytest.approx(recorded[-1]["end_s"] - shift_s, abs=1e-3)
        assert recording["overall"]["label"] == "angry"
        files = messages[-1]["files"]
        assert files["csv"].count("\n") == 1 + len(recorded)
        assert files["vtt"].startswith("WEBVTT")
        image = np.frombuffer(base64.b64decode(files["png"]), np.uint8)
        assert cv2.imdecode(image, cv2.IMREAD_COLOR).shape[1] == 1600

    def test_an_empty_one_says_so(self, served: Served) -> None:
        with served.stream({}) as client:
            client.tell({"type": "record", "on": True})
            client.tell({"type": "record", "on": False})
            message = client.next()
        assert message["analysis"]["overall"] is None
        assert message["files"] == {}


class TestWrongMessages:
    @pytest.mark.parametrize(
        ("text", "fact"),
        [
            ("no json", "JSON object"),
            ("[1]", "JSON object"),
            ("[" * 100_000, "JSON object"),
            ('{"type": "end"}', "first message"),
            ('{"type": "start", "colour": 1}', "colour"),
            ('{"type": "start", "video": 1}', "video is true or false"),
            ('{"type": "start", "hop_s": "1"}', "hop_s is a number"),
            ('{"type": "start", "hop_s": 0.001}', "the hop is 0.001 s"),
            ('{"type": "start", "window_s": 99}', "the window is 99 s"),
            ('{"type": "start", "window_s": 1e999}', "out of all bounds"),
            ('{"type": "start", "hop_s": NaN}', "out of all bounds"),
            (f'{{"type": "start", "hop_s": {10**400}}}', "out of all bounds"),
            (f'{{"type": "start", "hop_s": {"9" * 5000}}}', "JSON object"),
            ('{"type": "start", "faces": "none"}', "faces is 'none'"),
            ('{"type": "start", "video": false, "audio": false}', "nothing would come"),
        ],
    )
    def test_at_the_start(self, served: Served, text: str, fact: str) -> None:
        with served.stream() as client:
            client.socket.send(text)
            message = client.next()
            assert message["type"] == "error" and fact in message["error"]
            code, reason = refusal(client)
        assert code == 1008 and fact in reason

    @pytest.mark.parametrize(
        ("messages", "fact"),
        [
            ([(IMAGE, 1.0), (IMAGE, 1.0)], "after one of 1 s"),
            ([(IMAGE, 5000.0)], "where 0 s were reached"),
            ([(PCM_F32, 0), (PCM_F32, 10)], "after that up to 1600"),
            ([(PCM_F32, 10**9)], "audio are missing"),
        ],
    )
    def test_times_that_cannot_be(self, served: Served, messages: list, fact: str) -> None:
        payloads = {IMAGE: png(np.zeros((32, 32, 3), np.uint8)), PCM_F32: bytes(4 * 1600)}
        with served.stream({}) as client:
            for kind, position in messages:
                client.send(kind, position, payloads[kind])
            code, reason = refusal(client)
        assert code == 1008 and fact in reason

    @pytest.mark.parametrize("duration", ["NaN", "1e12", "-1", '"2"', "true", str(10**400)])
    def test_lengths_that_cannot_be(self, served: Served, duration: str) -> None:
        with served.stream({}) as client:
            client.socket.send(f'{{"type": "end", "duration_s": {duration}}}')
            code, reason = refusal(client)
        assert code == 1008 and "duration_s" in reason

    def test_what_was_not_announced(self, served: Served) -> None:
        with served.stream({"audio": False}) as client:
            client.send(PCM_F32, 0, bytes(4))
            assert "none would" in refusal(client)[1]

    def test_too_large_a_message(self, served: Served) -> None:
        with ExitStack() as stack:
            client = stack.enter_context(served.stream({}))
            # Cut off while it is still being sent, so that the close code may not arrive.
            with suppress(ConnectionClosed):
                client.socket.send(bytes(5_000_000))
            with pytest.raises(ConnectionClosed):
                client.next()

    def test_the_place_is_free_afterwards(self, served: Served) -> None:
        eventually(lambda: served.state.sessions.taken == 0)


class TestPlaces:
    def test_more_viewers_than_places_are_refused_in_words(
        self, pipeline: Pipeline, isolated: IsolatedPool
    ) -> None:
        options = ServeOptions(port=0, limits=Limits(sessions=2))
        with serving(pipeline, isolated, options) as server:
            with server.stream({}), server.stream({}):
                upgrade = {
                    "Upgrade": "websocket",
                    "Connection": "Upgrade",
                    "Sec-WebSocket-Version": "13",
                    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
                }
                answer = server.ask("/v1/stream", headers=upgrade)
                assert answer.status == 503
                assert "all 2 live sessions" in answer.json["error"]
                assert server.ask("/v1/info").json["sessions"] == {"active": 2, "limit": 2}
            eventually(lambda: server.state.sessions.taken == 0)
            with server.stream({}):
                pass
            text = server.ask("/metrics").body.decode()
            assert "mfer_edge_sessions_refused_total 1.0" in text
            assert "mfer_edge_sessions_started_total 3.0" in text

    def test_a_silent_viewer_loses_its_place(
        self, pipeline: Pipeline, isolated: IsolatedPool
    ) -> None:
        options = ServeOptions(port=0, limits=Limits(sessions=1, idle_s=0.2))
        with serving(pipeline, isolated, options) as server, server.stream({}) as client:
            assert client.next() == {"type": "error", "error": "nothing came for too long"}
            assert refusal(client)[0] == 1001
            eventually(lambda: server.state.sessions.taken == 0)


class TestPace:
    def test_late_frames_are_dropped_and_counted_and_sound_never(
        self, served: Served, moment: Path
    ) -> None:
        items, _ = items_of(moment)
        face = next(item.image for item in items if isinstance(item, Frame))
        encoded, count = png(face), 60
        with served.stream({}) as client:
            for index in range(count):
                client.send(PCM_F32, index * 3200, bytes(4 * 3200))
                client.send(IMAGE, index / 5, encoded)
            client.tell({"type": "end"})
            messages = client.until("end")
        end = messages[-1]
        assert end["dropped"] > 0  # 12 s came at once
        assert end["frames"] + end["dropped"] == count
        assert end["audio_s"] == count / 5
        assert [message["text"] for message in messages if message["type"] == "notice"]
        assert [r["end_s"] for r in readings(messages)] == [float(s) for s in range(4, 13)]

    def test_memory_does_not_grow_with_what_is_sent_at_once(self, served: Served) -> None:
        """A sender that is far ahead has to wait, as its messages are not taken."""
        block = bytes(4 * SAMPLE_RATE * 5)
        with served.stream({"video": False}) as client:
            for index in range(12):
                client.send(PCM_F32, index * SAMPLE_RATE * 5, block)
            client.tell({"type": "end"})
            assert client.until("end")[-1]["audio_s"] == 60
