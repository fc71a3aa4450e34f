"""``groundlake ingest`` as a shell sees it: exit codes, messages and summaries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from etl.cli import ingest, main
from etl.demo.server import serve
from etl.errors import DataError
from etl.ingest.counts import IngestCounts
from etl.lake import Lake, Snapshot
from etl.shapes.files.site import write_scenes

Groundlake = Callable[..., tuple[int, str, str]]


@pytest.fixture
def groundlake(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Groundlake:
    """Run a command on ``lake`` in this process; its exit code, output and errors."""
    monkeypatch.setenv("GROUNDLAKE_LAKE", lake.uri)
    monkeypatch.setenv("GROUNDLAKE_SCRATCH", str(tmp_path / "scratch"))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["groundlake", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.mark.slow
def test_run_downloads_a_list_and_a_second_run_has_nothing_to_do(groundlake: Groundlake, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (picture,) = write_scenes(site, "", [1])
    picture.path.rename(site / "a.png")
    with serve(site) as base:
        (tmp_path / "list.csv").write_text(f"link,text\n{base}/a.png,a picture\n{base}/gone.png,\nnonsense,\n")
        mine = ("--urls", "list.csv", "--url-col", "link", "--caption-col", "text", "--source", "mine")
        code, out, _ = groundlake("ingest", "run", *mine, "--allow-private-addresses")
    assert code == 0
    table = [line.split("│")[1:3] for line in out.splitlines() if line.startswith("│")]
    assert {name.strip(): number.strip() for name, number in table} == {
        "ok": "1", "duplicate": "0", "failed: bad_url": "1", "failed: http_404": "1", "all": "3"
    }  # fmt: skip
    code, out, _ = groundlake("ingest", "run", *mine, "--allow-private-addresses")
    assert code == 0
    assert "3 urls listed, all of them settled: nothing to download" in out


@pytest.mark.parametrize(
    ("failed", "remedy"),
    [
        ({"blocked": 1, "http_404": 1}, "--allow-private-addresses"),
        ({"connection": 2}, "check the network, then run it again with --retry-failed"),
        ({"http_404": 2}, "check the list"),
    ],
)
def test_when_all_urls_are_dead_the_remedy_fits_the_cause(failed: dict[str, int], remedy: str) -> None:
    with pytest.raises(DataError, match="all urls dead: none of 2 gave a picture") as caught:
        ingest._refuse_all_dead(IngestCounts(2, 0, 0, failed))
    assert remedy in str(caught.value.remedy)


def test_a_list_of_bad_urls_only_is_settled_and_dead(groundlake: Groundlake, lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("nonsense\nftp://a/1\n")
    code, _, error = groundlake("ingest", "run", "--urls", "list.txt", "--source", "mine")
    assert (code, "none of 2 gave a picture (2 bad_url)" in error) == (65, True)
    with Snapshot.take(lake).connect() as connection:
        assert connection.sql("select count(*) from downloads where error_class = 'bad_url'").fetchall() == [(2,)]
    assert list(lake.store.list("raw/")) == []


def test_plan_as_json_names_the_shards_that_shard_runs(groundlake: Groundlake, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("nonsense\n")
    plan = ("ingest", "plan", "--urls", "list.txt", "--source", "mine", "--request", "night", "--json")
    code, out, _ = groundlake(*plan)
    planned = json.loads(out)
    assert (code, planned["planned"], len(planned["shards"])) == (0, 1, 1)
    assert json.loads(groundlake(*plan)[1]) == planned
    shard = planned["shards"][0]
    code, out, _ = groundlake("ingest", "shard", "--shard", shard["shard_id"][:6], "--attempt", str(shard["attempt"]))
    assert (code, "failed: bad_url" in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("run", "--source", "nobody"), 78, "unknown source 'nobody'"),
        (("run",), 78, "--source is missing"),
        (("run", "--urls", "gone.csv", "--source", "mine"), 65, "does not exist"),
        (("run", "--urls", "list.csv", "--source", "mine"), 65, "no column 'url'; its columns are: link"),
        (("run", "--urls", "empty.txt", "--source", "mine"), 65, "holds no urls"),
        (("run", "--urls", "list.csv", "--source", "Not A Name"), 78, "name: got 'Not A Name'"),
        (("shard", "--shard", "abc"), 78, "unknown shard 'abc'"),
    ],
    ids=["unknown source", "no source", "missing list", "missing column", "no urls", "bad name", "unknown shard"],
)
def test_bad_input_ends_with_its_reason_and_code(
    groundlake: Groundlake, tmp_path: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    (tmp_path / "list.csv").write_text("link\nhttp://a/1\n")
    (tmp_path / "empty.txt").write_text("")
    ended, _, error = groundlake("ingest", *arguments)
    assert (ended, says in error) == (code, True), error


def test_a_source_of_the_catalog_keeps_its_own_settings(
    groundlake: Groundlake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "catalog" / "sources").mkdir(parents=True)
    (tmp_path / "catalog" / "sources" / "news.yaml").write_text("uri: list.txt\n")
    (tmp_path / "list.txt").write_text("nonsense\n")
    monkeypatch.setenv("GROUNDLAKE_CATALOG", str(tmp_path / "catalog"))
    code, _, error = groundlake("ingest", "run", "--source", "news", "--shard-size", "5")
    assert (code, "--shard-size only goes with --urls" in error) == (78, True)
    code, _, error = groundlake("ingest", "run", "--source", "news", "--urls", "list.txt")
    assert (code, "described in the catalog" in error) == (78, True)
    assert groundlake("ingest", "plan", "--source", "news")[0] == 0
