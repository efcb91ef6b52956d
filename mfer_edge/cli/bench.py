"""`mfer-edge bench`: latency and throughput on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mfer_edge.cli.options import INPUT, STDOUT, TEXT_OUTPUT, device_option, threads_option
from mfer_edge.cli.output_paths import OutputPaths
from mfer_edge.cli.progress import print_step


@click.command()
@click.option("--bundle", "bundles", multiple=True, type=INPUT,
              help="Model to measure [default: compact]; more than one with --sweep.")  # fmt: skip
@device_option
@click.option("--clip", type=INPUT, help="What to measure on [default: a sample in the package].")
@click.option("--runs", type=click.IntRange(1), help="Of each kind [default: 100, or for 20 s].")
@click.option("--attempts", type=click.IntRange(1), help="Measure again on a busy machine, at "
              "most so often [default: 3; with --runs: 1].")  # fmt: skip
@threads_option
@click.option("--scenario", type=click.Choice(["single", "streams", "offline"]), default="single",
              show_default=True, help="One clip and one live session as fast as they go; how many "
              "live sessions keep up; clips back to back.")  # fmt: skip
@click.option("--streams", type=click.IntRange(1), help="With --scenario streams: try so many.")
@click.option("--sweep", is_flag=True, help="Try precisions (bundles), threads and batches.")
@click.option("--json", "json_path", type=TEXT_OUTPUT, help="Write the result; - for stdout.")
@click.option("--compare", "other", type=INPUT, help="An earlier --json: what differs from it.")
def bench(
    *,
    bundles: tuple[Path, ...],
    device: str,
    clip: Path | None,
    runs: int | None,
    attempts: int | None,
    threads: int | None,
    scenario: str,
    streams: int | None,
    sweep: bool,
    json_path: Path | None,
    other: Path | None,
) -> None:
    """Measure how long everything takes on this machine; about a minute."""
    if len(bundles) > 1 and not sweep:
        raise click.UsageError("more than one --bundle is for --sweep")
    if streams and scenario != "streams":
        raise click.UsageError("--streams is for --scenario streams")
    if sweep and scenario != "single":
        raise click.UsageError(f"--sweep and --scenario {scenario} don't go together")
    inputs = tuple(path for path in (clip, other) if path is not None)
    outputs = OutputPaths(json=json_path)
    outputs.check(inputs)
    from mfer_edge.bench.comparison import comparison_text
    from mfer_edge.bench.report import report_text
    from mfer_edge.bench.result import read_result, result_dict
    from mfer_edge.bench.run import BenchOptions, measure
    from mfer_edge.outputs.files import write_text

    before = None if other is None else read_result(other)
    scenario = "sweep" if sweep else scenario
    options = BenchOptions(bundles, device, clip, scenario, runs, threads or 0, streams, attempts)
    result = measure(options, print_step)
    if json_path == STDOUT:
        click.echo(json.dumps(result_dict(result)))
    else:
        if json_path is not None:
            write_text(json_path, json.dumps(result_dict(result)) + "\n")
        click.echo(report_text(result), nl=False)
    if before is not None:
        click.echo(comparison_text(before, result), nl=False, err=json_path == STDOUT)
