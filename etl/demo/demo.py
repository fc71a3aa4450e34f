"""The demo's three commands: ``run`` from urls to manifests, ``ui`` to keep Airflow open, ``stop``."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from etl.demo.airflow import Airflow, dags_folder
from etl.demo.airflow_env import USER, AirflowSite
from etl.demo.follow import Follower, Run
from etl.demo.pictures import SampleSource
from etl.demo.ports import HOST, answers, free_port
from etl.demo.prepare import Layout, picture_port, prepare
from etl.demo.processes import Child, spawn, tail
from etl.demo.report import Report
from etl.demo.session import check_disk, session, stop_other
from etl.demo.state import State
from etl.errors import GroundlakeError, RetryableError

if TYPE_CHECKING:
    from etl.lake import Lake
    from etl.settings import Settings

DAGS = ("ingest", "annotate", "manifest", "maintain")
CHAIN = DAGS[:3]


@dataclass(frozen=True)
class Demo:
    """A demo that is up: pictures are served and Airflow waits for work."""

    layout: Layout
    sample: SampleSource
    source: str
    lake: Lake
    airflow: Airflow
    server: Child

    def check(self) -> None:
        """Raise ChildDiedError when one of its processes has ended."""
        self.airflow.check()
        self.server.check()


@contextmanager
def demo(root: Path, report: Report) -> Iterator[Demo]:
    """Start everything in ``root``; stop everything on leaving, by whatever way.

    Raises:
        ConfigurationError: A demo runs here already, a setting is wrong, or the pictures' port is taken.
        RetryableError: The disk is too full.
        AirflowStartError: Airflow did not come up.
    """
    layout = Layout(root.resolve())
    check_disk(layout.root)
    settings = layout.settings()
    state = State(layout.folder)
    dags, plugins = dags_folder()
    site = AirflowSite(layout.airflow, dags, plugins, free_port(state.choice("airflow_port")), layout.environment())
    with session(state, site.address, report):
        state.choose("airflow_port", site.port)
        port = picture_port(state)
        with report.phase("Preparing pictures, catalog and lake"):
            ready = prepare(layout, f"http://{HOST}:{port}", report)
        with report.phase("Starting Airflow"):
            server = _serve(layout, site, state, port)
            airflow = Airflow(site, state.add)
            airflow.start(DAGS)
            _make_pools(airflow, settings)
        yield Demo(layout, ready.sample, ready.source, ready.lake, airflow, server)


def run(root: Path, report: Report) -> None:
    """From the sample's urls to manifests, through Airflow; prints what came out.

    Raises:
        RunFailedError: A task failed; its log was printed.
        GroundlakeError: Something of the above, or the lake does not hold what was served.
    """
    from etl.demo.scores import TRUTH, score
    from etl.demo.summary import check_counts, print_summary, unfinished

    with _ended_by_a_closed_terminal(), demo(root, report) as running:
        follower = Follower(running.airflow, report)
        with report.phase("Running the pipeline"):
            left = [Run(dag, run["dag_run_id"]) for dag in CHAIN for run in running.airflow.client.active_runs(dag)]
            if left:
                report.line(f"  going on with {len(left)} runs of an interrupted demo", "yellow")
                follower.skip_told(left)
            followed = follower.follow([*left, trigger(running, "ingest", {"sources": [running.source]})])
            # After a failed or killed run there may be work that no new picture will trigger.
            for _ in CHAIN:
                work = unfinished(running.lake, running.source)
                if work is not None:
                    report.line(f"  an earlier run left work for {work[0]}; triggering it", "yellow")
                    followed += follower.follow([trigger(running, *work)])
        if len(followed) == 1:
            report.line(
                "Everything is done already: no new urls, every image annotated, every manifest built.", "green"
            )
        check_counts(running.lake, running.source, running.sample)
        with report.phase("Scoring the annotations against the truth"):
            evaluation = score(running.lake, running.sample, running.source)
        report.line("")
        print_summary(running.lake, running.source, running.layout, evaluation, report)
    report.line(report.times(), "dim")
    report.line(f"Score any annotator: .venv/bin/groundlake eval --truth {TRUTH} --source {running.source}")
    report.line("Look around in the UI: make ui        Query the lake: .venv/bin/groundlake sql --help")


def ui(root: Path, report: Report) -> None:
    """Keep Airflow running until Ctrl-C, SIGTERM, or ``stop`` from another terminal."""
    with _ended_by_a_closed_terminal(), demo(root, report) as running:
        site = running.airflow.site
        report.line("")
        report.line(f"Airflow:  {site.address}", "bold green")
        report.line(f"Login:    {USER}", "bold green")
        report.line(f"Password: {site.password()}", "bold green")
        report.line(
            f"Trigger 'ingest' with the source '{running.source}' to see the chain run. Ctrl-C stops everything."
        )
        try:
            while True:
                running.check()
                time.sleep(1.0)
        except RetryableError:  # how this command is meant to end
            report.line("")


def stop(root: Path, report: Report) -> None:
    """Stop the demo of this folder, from any terminal."""
    stop_other(State(Layout(root.resolve()).folder), report)


def trigger(running: Demo, dag: str, conf: dict[str, object]) -> Run:
    """Start a run of a DAG over REST, as a person would in the UI."""
    run_id = f"demo__{datetime.now(UTC).strftime('%Y-%m-%dT%H:%M:%S.%f')}"
    running.airflow.client.trigger(dag, conf, run_id)
    return Run(dag, run_id)


def _make_pools(airflow: Airflow, settings: Settings) -> None:
    """Before the first run: a task whose pool does not exist waits forever, without a word."""
    from etl.orchestration.pools import pools

    for name, pool in pools(settings, "local").items():
        airflow.client.ensure_pool(name, pool.slots)


def _serve(layout: Layout, site: AirflowSite, state: State, port: int) -> Child:
    """Start the picture server and wait until it answers."""
    command = [sys.executable, "-m", "etl.demo.server", str(layout.pictures), "--port", str(port)]
    server = spawn("picture-server", command, site.environment(), site.logs / "pictures.log", layout.root)
    state.add([server.ref])
    _wait_until(lambda: answers(port), server)
    return server


def _wait_until(ready: Callable[[], bool], server: Child, seconds: float = 30.0) -> None:
    begin = time.monotonic()
    while not ready():
        server.check()
        if time.monotonic() - begin > seconds:
            raise GroundlakeError(f"the picture server did not answer within {seconds:.0f} s: {tail(server.log)}")
        time.sleep(0.1)


@contextmanager
def _ended_by_a_closed_terminal() -> Iterator[None]:
    """Let a closed terminal end the demo as SIGTERM and Ctrl-C do: by a typed error, after everything was stopped."""

    def hung_up(*_: object) -> NoReturn:
        raise RetryableError("the terminal was closed", remedy="run it again: it resumes where it was")

    before = signal.signal(signal.SIGHUP, hung_up)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
