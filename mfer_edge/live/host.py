"""A process that computes live sessions for another one: see `SessionPool`.

What comes and goes is pickled: frames are decoded in the parent, and this process reads no file
but the bundle's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mfer_edge.errors import MferError
from mfer_edge.isolation.child import opened, received
from mfer_edge.isolation.worker import told
from mfer_edge.results import FaceDetection, Reading

if TYPE_CHECKING:
    from mfer_edge.pipeline import Pipeline
    from mfer_edge.session import Session


@dataclass(frozen=True)
class Call:
    """A method of a session to run; `open` starts the session."""

    session: int
    method: str  # `open`, `push`, `prepare`, `tracks` or `close`
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)  # keyword arguments
    dropped: tuple[int, ...] = ()  # sessions that nobody holds any more


@dataclass(frozen=True)
class Update:
    """What a session has to tell after a call."""

    readings: list[Reading]
    warnings: tuple[str, ...]
    detections: list[FaceDetection]
    audio_s: float


def host(file_descriptor: int) -> None:
    """Main function of the process: open a `WorkerSetup`, then answer calls until the parent ends.

    Every message is answered, with the result or an exception. An exception that is not the
    caller's is a `CrashError`, and the process ends: it may be in any state.

    Args:
        file_descriptor: of the child's end of a `multiprocessing.Pipe`.
    """
    connection = opened(file_descriptor)
    calls = received(connection)
    sessions: dict[int, Session] = {}
    try:
        pipeline = calls.get().open()
    except Exception as error:
        connection.send(told(error))
        return
    connection.send(None)
    while True:
        try:
            answer = answered(pipeline, sessions, calls.get())
        except (MferError, ValueError) as error:
            answer = error
        except Exception as error:
            connection.send(told(error))
            return
        connection.send(answer)


def answered(pipeline: Pipeline, sessions: dict[int, Session], call: Call) -> object:
    """Run what a call asks for, after dropping the sessions that it names.

    Args:
        sessions: by number; changed.

    Returns:
        None for `open`, tracks for `tracks`, otherwise an `Update`.
    """
    for dropped in call.dropped:
        sessions.pop(dropped, None)
    if call.method == "open":
        sessions[call.session] = pipeline.session(*call.arguments, **call.options)
        return None
    session = sessions[call.session]
    result = getattr(session, call.method)(*call.arguments)
    if call.method == "tracks":
        return result
    detections, session.detections = session.detections, []
    return Update(session.readings(), session.warnings(), detections, session.audio_s)
