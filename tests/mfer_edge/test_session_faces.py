"""Several faces in a session: which is the main one, and what is read of the others."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from mfer_edge.model import Model
from mfer_edge.options import SessionOptions
from mfer_edge.session import Session
from mfer_edge.sources.base import Frame
from mfer_edge.speech.vad import SAMPLE_RATE
from tests.support.footage import at_a_dark_wall
from tests.support.sessions import (
    DEFAULT,
    FRAME_S,
    Stream,
    read,
)


class TestFaces:
    @pytest.fixture(scope="class")
    @staticmethod
    def together(stream: Stream, other_stream: Stream) -> Stream:
        """Both actors, side by side; the one on the left is heard."""
        frames = [
            Frame(left.time_s, np.hstack([left.image, right.image]))
            for left, right in zip(stream.frames, other_stream.frames, strict=False)
        ]
        end_s = frames[-1].time_s + FRAME_S
        return Stream(frames, stream.audio[: round(end_s * SAMPLE_RATE)], end_s)

    def test_all_faces_have_a_reading(self, model: Model, together: Stream) -> None:
        items = [together.chunk, *together.frames]
        readings = read(model, items, together.end_s, SessionOptions(2.0, 0.5, "all"))
        windows = [list(group) for _, group in itertools.groupby(readings, lambda r: r.start_s)]
        assert len(windows) == 4
        for main, other, *voices in windows:
            assert main.main and not other.main
            assert {main.track, other.track} == {0, 1}
            assert main.frames == other.frames
            assert min(main.faces, other.faces) >= main.frames - 1
            assert main.visual is not None and other.visual is not None
            assert main.visual != other.visual
            # The voice goes to the one who speaks, or is read by itself.
            heard = [r for r in (main, other, *voices) if "audio" in r.modalities]
            assert len(heard) == 1 and heard[0].speech_s > 0
            assert [r for r in (main, other) if r.speaker] == heard[: not voices]
            assert all((r.track, r.modalities, r.main) == (None, ("audio",), False) for r in voices)

    def test_a_listener_does_not_get_the_voice(self, model: Model, together: Stream) -> None:
        """The actor on the right is a picture."""
        half = together.frames[0].image.shape[1] // 2
        frames = []
        for frame in together.frames:
            image = frame.image.copy()
            image[:, half:] = together.frames[0].image[:, half:]
            frames.append(Frame(frame.time_s, image))
        items = [together.chunk, *frames]
        readings = read(model, items, together.end_s, SessionOptions(2.5, 0.5, "all"))
        assert {reading.track for reading in readings} == {0, 1}  # no voice without a face
        session = Session(model, DEFAULT, keep_detections=True)
        session.push(frames[0])
        left = min(session.detections, key=lambda detection: detection.left)
        for reading in readings:
            assert reading.speaker == (reading.track == left.track)
            assert reading.modalities == (("visual", "audio") if reading.speaker else ("visual",))

    def test_the_main_face_is_read_as_if_it_were_alone(
        self, model: Model, together: Stream
    ) -> None:
        """But for the voice, which is the recording's if only one face is asked for."""
        items = [together.chunk, *together.frames]
        every = read(model, items, together.end_s, SessionOptions(2.0, 0.5, "all"))
        main = read(model, items, together.end_s, SessionOptions(2.0, 0.5))
        seen = [reading for reading in every if reading.main]
        for one, other in zip(main, seen, strict=True):
            assert (one.track, one.visual, one.faces) == (other.track, other.visual, other.faces)
            assert one.modalities == ("visual", "audio")

    def test_the_larger_face_is_the_main_one(
        self, model: Model, stream: Stream, other_stream: Stream
    ) -> None:
        for left_is_larger in (True, False):
            session = Session(model, DEFAULT, keep_detections=True)
            for left, right in zip(stream.frames[:10], other_stream.frames[:10], strict=True):
                images = [left.image, right.image]
                small = cv2.resize(images[left_is_larger], None, fx=0.5, fy=0.5)
                images[left_is_larger] = cv2.copyMakeBorder(
                    small, 180, 0, 0, 0, cv2.BORDER_CONSTANT
                )
                session.push_frame(np.hstack(images), left.time_s)
            session.close()
            [reading] = session.readings()
            boxes = [s for s in session.detections if s.track == reading.track]
            seen_left = [s.right < images[0].shape[1] for s in boxes]
            assert seen_left == [left_is_larger] * len(boxes) and len(boxes) == 10

    def test_a_larger_face_that_comes_later_is_the_main_one(
        self, model: Model, stream: Stream, other_stream: Stream
    ) -> None:
        session = Session(model, DEFAULT)
        for index, frame in enumerate(stream.frames[:10]):
            small = cv2.resize(other_stream.frames[index].image, None, fx=0.5, fy=0.5)
            small = cv2.copyMakeBorder(small, 0, 180, 0, 0, cv2.BORDER_CONSTANT)
            large = frame.image if index >= 4 else np.zeros_like(frame.image)
            session.push_frame(np.hstack([small, large]), frame.time_s)
        session.close()
        [reading] = session.readings()
        assert [track.faces for track in session.tracks()] == [10, 6]
        assert (reading.track, reading.faces, reading.frames) == (1, 6, 10)

    def test_tracks_tell_who_was_there(self, model: Model, together: Stream) -> None:
        session = Session(model, DEFAULT, keep_detections=True)
        for item in [together.chunk, *together.frames]:
            session.push(item)
        tracks = session.tracks()
        assert [track.track for track in tracks] == [0, 1]
        assert all(track.faces >= len(together.frames) - 1 for track in tracks)
        assert len(session.detections) == sum(track.faces for track in tracks)

    def test_a_change_of_resolution_changes_nobody(self, model: Model, stream: Stream) -> None:
        """As calls do it: the picture shrinks to a quarter, and grows again."""
        session = Session(model, DEFAULT, keep_detections=True)
        for index, frame in enumerate(stream.frames[:12]):
            factor = 0.25 if 4 <= index < 8 else 1.0
            small = cv2.resize(
                frame.image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA
            )
            session.push_frame(small, frame.time_s)
        [track] = session.tracks()
        assert track.faces == 12
        sizes = [detection.size for detection in session.detections]
        assert sizes == [(360, 640)] * 4 + [(90, 160)] * 4 + [(360, 640)] * 4

    def test_size_counts_in_shares_of_the_picture(
        self, model: Model, stream: Stream, other_stream: Stream
    ) -> None:
        """The larger face is the main one, though its frames have fewer pixels."""
        session = Session(model, DEFAULT)
        for index, (his, hers) in enumerate(zip(stream.frames, other_stream.frames, strict=False)):
            if index < 4:  # alone, and from far
                image = cv2.copyMakeBorder(hers.image, 0, 360, 0, 640, cv2.BORDER_REPLICATE)
            else:
                image = cv2.resize(his.image, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
            if index < 8:
                session.push_frame(image, his.time_s)
        session.close()
        [reading] = session.readings()
        assert [track.faces for track in session.tracks()] == [4, 4]
        assert reading.track == 1

    def test_a_cut_to_another_person_in_the_same_place(
        self, model: Model, stream: Stream, other_stream: Stream
    ) -> None:
        session = Session(model, DEFAULT, keep_detections=True)
        images = [frame.image for frame in stream.frames[:8]]
        images += [at_a_dark_wall(frame.image) for frame in other_stream.frames[:8]]
        for index, image in enumerate(images):
            session.push_frame(image, index * FRAME_S)
        assert [track.faces for track in session.tracks()] == [8, 8]
        before, after = session.detections[7:9]
        assert min(before.right, after.right) - max(before.left, after.left) > 50  # pixels

    def test_detections_are_kept_only_where_asked_for(self, model: Model, stream: Stream) -> None:
        session = Session(model, DEFAULT)
        session.push_frame(stream.frames[0].image, 0.0)
        assert session.detections == [] and len(session.tracks()) == 1
