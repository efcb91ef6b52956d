"""Measure the server: idle viewers, live streams, uploads at once, connections.

`python -m benchmarks.scale.serve CLIP [--seconds S] [--uploads N] [--json PATH]` starts
`mfer-edge serve` as a process and is its clients, on the same cores.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from websockets.sync.client import ClientConnection, connect

from benchmarks.harness import script
from benchmarks.harness.children import descendants
from benchmarks.harness.tables import document, markdown_table, milliseconds
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.sources.base import Frame
from mfer_edge.sources.replay import Replay

IDLE_VIEWERS, IDLE_S = 50, 20.0
STREAMS = (1, 2, 14)
CONNECTIONS = 1000
BOUNDARY = "boundary-of-the-benchmark"
IMAGE, PCM_F32 = 1, 3
QUALITY = 90  # of the JPEGs, as the page sends them


@dataclass(frozen=True)
class StreamsResult:
    """Live streams at their own pace."""

    streams: int
    readings: int
    compute_p50_s: float
    compute_p99_s: float
    lag_p99_s: float
    dropped: int


@dataclass(frozen=True)
class ServeResult:
    """Everything that was measured."""

    machine: Machine
    clip: str
    load: float  # of the machine before: processes of others that wanted a core
    idle_cpu: float  # of one core, added by the idle viewers
    streams: tuple[StreamsResult, ...]
    uploads: dict[str, int]  # by status
    uploads_s: float
    mixed_up: int
    lost: int
    request_s: float  # one request with the idle connections open


@contextmanager
def server(*arguments: str) -> Iterator[tuple[int, int]]:
    """Run the server; yields its process' id and its port."""
    command = [sys.executable, "-m", "mfer_edge", "serve", "--port", "0", *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().split()[0]
            yield process.pid, int(address.rstrip("/").rsplit(":", 1)[1])
        finally:
            process.terminate()


def cpu_s(pid: int) -> float:
    """CPU time of a process and of its children so far."""
    ticks = 0
    for process in (pid, *descendants(pid)):
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def open_stream(port: int) -> Iterator[ClientConnection]:
    """Begin a live session."""
    address = f"ws://127.0.0.1:{port}/v1/stream"
    with connect(address, compression=None, max_size=None) as opened:
        opened.send(json.dumps({"type": "start"}))
        opened.recv()
        yield opened


def idle_viewers(pid: int, port: int) -> float:
    """CPU time a second that viewers take who send nothing."""
    before = cpu_s(pid)
    time.sleep(IDLE_S)
    alone = cpu_s(pid) - before
    with ExitStack() as stack:
        for _ in range(IDLE_VIEWERS):
            stack.enter_context(open_stream(port))
        before = cpu_s(pid)
        time.sleep(IDLE_S)
        return (cpu_s(pid) - before - alone) / IDLE_S


def stream(port: int, footage: Replay, seconds: float, after_s: float) -> list[dict]:
    """Send footage at its own pace, as the page does, after a while; returns the readings."""
    messages: list[tuple[float, bytes]] = []
    samples = 0
    for due_s, item in footage.endless().timed():
        if due_s > seconds:
            break
        if isinstance(item, Frame):
            quality = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
            content = cv2.imencode(".jpg", cv2.resize(item.image, (640, 360)), quality)[1].tobytes()
            header = struct.pack("<B7xd", IMAGE, item.time_s)
        else:
            content = item.samples.tobytes()
            header = struct.pack("<B7xd", PCM_F32, samples)
            samples += len(item.samples)
        messages.append((due_s, header + content))
    time.sleep(after_s)
    with open_stream(port) as opened, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(lambda: [json.loads(text) for text in opened])
        start_s = time.perf_counter()
        for due_s, message in messages:
            time.sleep(max(0.0, start_s + due_s - time.perf_counter()))
            opened.send(message)
        opened.send('{"type": "end"}')
        return [told for told in reading.result() if told["type"] == "reading"]


def streams(port: int, footage: Replay, count: int, seconds: float) -> StreamsResult:
    """Several streams at once, a fraction of a second apart, like those of strangers."""
    with ThreadPoolExecutor(count) as pool:
        jobs = [pool.submit(stream, port, footage, seconds, i / count) for i in range(count)]
        each = [job.result() for job in jobs]
    readings = [told for one in each for told in one[1:]]  # the first embeds a whole window
    compute = [told["compute_s"] for told in readings]
    p50_s, p99_s = np.percentile(compute, [50, 99]).tolist()
    lag_s = float(np.percentile([told["lag_s"] for told in readings], 99))
    dropped = sum(one[-1]["dropped"] for one in each)
    return StreamsResult(count, len(readings), p50_s, p99_s, lag_s, dropped)


def upload(port: int, name: str, content: bytes) -> tuple[str, bool]:
    """Send a clip; returns the status, and whether another clip's result came."""
    disposition = f'form-data; name="clip"; filename="{name}"'
    head = f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n"
    body = head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    try:
        connection.request("POST", "/v1/analyze", body, kind)
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"lost: {type(error).__name__}", False
    finally:
        connection.close()
    return str(response.status), response.status == 200 and answer["source"] != name


def measure(clip: Path, seconds: float, uploads: int) -> ServeResult:
    """Measure all.

    Raises:
        MferError: the clip can't be read.
    """
    footage, content, load = Replay.read(clip, 5.0), clip.read_bytes(), os.getloadavg()[0]
    with server("--sessions", str(IDLE_VIEWERS)) as (pid, port):
        script.log(f"{IDLE_VIEWERS} idle viewers")
        idle = idle_viewers(pid, port)
        live = []
        for count in STREAMS:
            script.log(f"{count} streams")
            live.append(streams(port, footage, count, seconds))
        script.log(f"{uploads} uploads")
        start_s = time.perf_counter()
        with ThreadPoolExecutor(uploads) as pool:
            names = [f"{index}.mp4" for index in range(uploads)]
            answers = list(pool.map(lambda name: upload(port, name, content), names))
        uploads_s = time.perf_counter() - start_s
        script.log(f"{CONNECTIONS} connections")
        with ExitStack() as stack:
            for _ in range(CONNECTIONS):
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            start_s = time.perf_counter()
            asked = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            asked.request("GET", "/v1/info")
            assert asked.getresponse().status == 200
            request_s = time.perf_counter() - start_s
    statuses = Counter(status for status, _ in answers)
    return ServeResult(
        machine=describe_machine(),
        clip=clip.name,
        load=load,
        idle_cpu=idle,
        streams=tuple(live),
        uploads=dict(statuses),
        uploads_s=uploads_s,
        mixed_up=sum(mixed for _, mixed in answers),
        lost=sum(count for status, count in statuses.items() if status.startswith("lost")),
        request_s=request_s,
    )


def markdown(result: ServeResult) -> str:
    """Format the tables."""
    rows = [
        (
            str(one.streams),
            str(one.readings),
            f"{milliseconds(one.compute_p50_s)} / {milliseconds(one.compute_p99_s)}",
            milliseconds(one.lag_p99_s),
            str(one.dropped),
        )
        for one in result.streams
    ]
    headings = "streams | readings | compute, ms: median / p99 | lag, ms: p99 | frames dropped"
    total, done = sum(result.uploads.values()), result.uploads.get("200", 0)
    refused = result.uploads.get("503", 0)
    facts = [
        (f"{IDLE_VIEWERS} idle viewers: CPU added, of one core", f"{result.idle_cpu:.1%}"),
        (f"{total} uploads at once: answered / refused with 503", f"{done} / {refused}"),
        ("lost / mixed up", f"{result.lost} / {result.mixed_up}"),
        ("seconds for all of them", f"{result.uploads_s:.1f}"),
        (f"a request with {CONNECTIONS} idle connections, ms", milliseconds(result.request_s)),
    ]
    summary = (
        f"Clip: {result.clip}; frames sent as JPEG of 640 x 360, at their own pace. Server and "
        f"clients share the cores; the machine's load before was {result.load:.1f}."
    )
    return document(
        f"{summary}\n{script.machine_line(result.machine)}",
        markdown_table(headings, rows, align="rrrrr"),
        markdown_table("what | measured", facts, align="lr"),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, and write them as JSON where asked."""
    parser = script.parser_of(__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--uploads", type=int, default=200)
    options = script.parse(parser, arguments)
    result = measure(options.clip, options.seconds, options.uploads)
    script.publish(markdown(result), result, options.json)


if __name__ == "__main__":
    script.run(main)
