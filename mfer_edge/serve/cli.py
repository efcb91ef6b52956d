"""`mfer-edge serve`: the page and the API."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mfer_edge.cli.options import (
    INPUT,
    adapt_option,
    adaptation_file,
    device_option,
    threads_option,
)
from mfer_edge.errors import MferError
from mfer_edge.install import install_hint
from mfer_edge.serve.options import (
    MEGABYTE,
    Limits,
    ServeOptions,
    default_sessions,
    is_loopback,
)

if TYPE_CHECKING:
    from mfer_edge.live.sources import LiveChoice

UPLOAD_MEMORY = 2_000 * MEGABYTE  # of the process that analyses a clip


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True,
              help="Address to listen on; 0.0.0.0 for all, with a token.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=8040, show_default=True,
              help="0 takes any free one.")  # fmt: skip
@click.option("--token", help="That every request must bring [default: none on this machine's own "
              "address, else a random one].")  # fmt: skip
@click.option("--allow-host", "allow_hosts", multiple=True, metavar="NAME",
              help="Another name of this server, as a proxy's; may be repeated.")  # fmt: skip
@click.option("--tls-cert", type=INPUT, help="Certificate for https, PEM.")
@click.option("--tls-key", type=INPUT, help="Its private key [default: in the certificate's file].")
@click.option("--sessions", type=click.IntRange(1), metavar="N",
              help="Live sessions at once [default: 7 per core].")  # fmt: skip
@click.option("--processes", type=click.IntRange(0), metavar="N",
              help="That compute live sessions; 0: the server's own [default: one per core for a "
              "small model on the CPU, else 0].")  # fmt: skip
@click.option("--bench", "bench_path", type=INPUT, metavar="FILE",
              help="Take that from `mfer-edge bench --scenario streams --json FILE`.")  # fmt: skip
@click.option("--uploads", type=click.IntRange(1), default=Limits.uploads, show_default=True,
              help="Clips at once, those included that wait.")  # fmt: skip
@click.option("--upload-workers", type=click.IntRange(1), default=1, show_default=True,
              help="Processes that analyse clips.")  # fmt: skip
@click.option("--max-upload", type=click.IntRange(1), default=200, show_default=True, metavar="MB",
              help="Size of a clip.")  # fmt: skip
@click.option("--max-clip", type=click.FloatRange(1), default=Limits.clip_s, show_default=True,
              metavar="SECONDS", help="Length of a clip.")  # fmt: skip
@click.option("--camera", metavar="N|NAME", help="Offer this machine's camera on the page.")
@click.option("--mic", metavar="NAME|off",
              help="Microphone beside it [default: the system's].")  # fmt: skip
@click.option("--url", "urls", multiple=True, metavar="URL",
              help="Offer a stream: RTSP, HTTP, UDP and the like; may be repeated.")  # fmt: skip
@click.option("--bundle", type=INPUT, help="Model to use [default: compact].")
@device_option
@adapt_option
@threads_option
def serve(
    *,
    host: str,
    port: int,
    token: str | None,
    allow_hosts: tuple[str, ...],
    tls_cert: Path | None,
    tls_key: Path | None,
    sessions: int | None,
    processes: int | None,
    bench_path: Path | None,
    uploads: int,
    upload_workers: int,
    max_upload: int,
    max_clip: float,
    camera: str | None,
    mic: str | None,
    urls: tuple[str, ...],
    bundle: Path | None,
    device: str,
    adapt: str,
    threads: int | None,
) -> None:
    """Serve a page for cameras and clips in the browser, and an API; until Ctrl-C."""
    if tls_key is not None and tls_cert is None:
        raise click.UsageError("--tls-key needs --tls-cert")
    if sessions is not None and bench_path is not None:
        raise click.UsageError("--sessions and --bench both say how many: give one")
    if mic is not None and camera is None:
        raise click.UsageError("--mic needs --camera")
    if token is not None and not (token.isascii() and token.isprintable() and len(token) >= 8):
        raise click.UsageError("--token: at least 8 printable ASCII characters")
    options = ServeOptions(
        host=host,
        port=port,
        token=token or (None if is_loopback(host) else secrets.token_urlsafe(24)),
        allow_hosts=allow_hosts,
        tls_cert=None if tls_cert is None else str(tls_cert),
        tls_key=None if tls_key is None else str(tls_key),
        limits=Limits(
            sessions=sessions or _measured_sessions(bench_path, threads),
            uploads=uploads,
            upload_bytes=max_upload * MEGABYTE,
            clip_s=max_clip,
        ),
    )
    with _named_extra():  # imported here, so that `--help` is there without it
        from mfer_edge.serve.server import address, check_tls, listen, make_server
        from mfer_edge.serve.state import ServerState
        from mfer_edge.serve.upload import delete_leftovers

    check_tls(options)
    sources = _sources(camera, mic, urls)
    adaptation = adaptation_file(adapt)
    with listen(options) as opened:
        from mfer_edge.isolation.pool import IsolatedPool
        from mfer_edge.isolation.process import memory_is_shown
        from mfer_edge.isolation.worker import WorkerSetup
        from mfer_edge.live.pool import SessionPool, default_processes
        from mfer_edge.pipeline import Pipeline

        delete_leftovers()
        pipeline = Pipeline.open(bundle, device, threads or 0, adaptation=adaptation)
        if processes is None:
            processes = default_processes(pipeline.bundle, pipeline.device, pipeline.threads)
        setup = WorkerSetup(bundle, device, threads or 0, adaptation)
        memory_bytes = UPLOAD_MEMORY if memory_is_shown() else None
        if memory_bytes is None:
            click.echo("warning: the memory that a clip takes can't be limited here", err=True)
        isolated = IsolatedPool(
            replace(setup, max_memory_bytes=memory_bytes), workers=upload_workers
        )
        pool = SessionPool.of(setup, processes, pipeline.threads) if processes else None
        state = ServerState.of(pipeline, isolated, options, sources, pool=pool)
        try:
            make_server(state, lambda: _announce(options, address(options, opened))).run(
                sockets=[opened]
            )
        finally:
            state.close()


@contextmanager
def _named_extra() -> Iterator[None]:
    """Name the extra to install if a package that serving needs is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MferError(f"{error.name} is not installed: {install_hint('serve')}") from error


def _sources(camera: str | None, mic: str | None, urls: Sequence[str]) -> tuple[LiveChoice, ...]:
    """What the server itself reads."""
    from mfer_edge.live.sources import LiveChoice

    devices = [] if camera is None else [LiveChoice(camera, mic)]
    choices = (*devices, *(LiveChoice(url=url) for url in urls))
    for choice in choices:
        choice.check()
    return choices


def _announce(options: ServeOptions, page: str) -> None:
    click.echo(f"{page}  (Ctrl-C ends)")
    if not is_loopback(options.host):
        click.echo("other machines need this machine's name or address there, and the token")
        if options.scheme == "http":
            click.echo(
                "without --tls-cert the browsers of other machines give no camera, and whoever "
                "listens to the network reads along"
            )


def _measured_sessions(bench_path: Path | None, threads: int | None) -> int:
    if bench_path is None:
        from mfer_edge.cpu import core_count

        return default_sessions(threads or core_count())
    from mfer_edge.bench.result import read_result

    result = read_result(bench_path)
    if not result.streams:
        raise MferError(f"{bench_path}: no number of streams held: run `--scenario streams`")
    return result.streams
