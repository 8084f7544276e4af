"""The commands, run in this process: what they print, what they return, what they leave alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import handmade as hm
import pytest

import tarfailover
from tarfailover import errors
from tarfailover.cli import main
from tarfailover.ids import RecordId, text
from tarfailover.store.lock import RepositoryLock

pytestmark = pytest.mark.load

NAME = "data00000a.tar"
BULK = hm.bulk(0x81, 700)
LOW = hm.data(0x11, BULK)
TOP = hm.data(0x71, LOW, BULK)
PIECES = (BULK, LOW, TOP)
TIME = "2024-10-24T00:00:00.000Z"
READERS = ("head", "segments", "journal", "check")

Store = Callable[[str], Path]
Json = Callable[..., tuple[int, Any]]


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    return hm.store(tmp_path / "healthy", {NAME: hm.closed_tar(NAME, PIECES)}, hm.line(TOP))


def shape(value: Any) -> Any:
    """`value` with the names of types in the place of what varies."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value[:1]]
    return type(value).__name__


RECORD = {"id": "str", "hex": "str", "segment": "str", "record": "int"}
GENERATION = {"generation": "int", "full": "int", "compacted": "bool"}
THE_HEAD = {**RECORD, "generation": GENERATION, "time_ms": "int", "time": "str"}
COUNT = {"segments": "int", "bytes": "int"}
KINDS = {"data": COUNT, "bulk": COUNT, "needed": COUNT}


# head


def test_head(healthy: Path, run_text: Callable[..., tuple[int, list[str]]]) -> None:
    record = RecordId(TOP.segment, 1)
    assert run_text("head", healthy) == (
        0,
        [
            f"head        {record}",
            f"in hex      {record.hex}",
            "generation  0/0",
            f"time        {TIME} (1729728000000 ms)",
        ],
    )


def test_head_json(healthy: Path, run_json: Json) -> None:
    code, document = run_json("head", healthy)
    assert code == 0
    assert shape(document) == {"store": "str", "head": THE_HEAD, "skipped": []}
    assert document["head"]["id"] == str(RecordId(TOP.segment, 1))
    assert document["head"]["time"] == TIME


def test_head_tells_which_lines_it_stepped_over(
    healthy: Path, run_json: Json, run_text: Callable[..., tuple[int, list[str]]]
) -> None:
    gone = hm.data(0x77)
    (healthy / "journal.log").write_bytes(hm.line(TOP) + hm.line(gone))
    code, document = run_json("head", healthy)
    assert code == 0
    assert document["head"]["segment"] == text(TOP.segment)
    assert [text(gone.segment) in each for each in document["skipped"]] == [True]
    code, printed = run_text("head", healthy)
    assert printed[-1].startswith("skipped  ")
    assert text(gone.segment) in printed[-1]


@pytest.mark.parametrize("time_ms", [0, 10**17])
def test_a_time_that_is_none(
    healthy: Path, run_json: Json, run_text: Callable[..., Any], time_ms: int
) -> None:
    (healthy / "journal.log").write_bytes(hm.line(TOP, 1, time_ms))
    assert run_json("head", healthy)[1]["head"]["time"] is None
    assert run_text("head", healthy)[1][3].startswith("time        unknown")


# segments


def test_segments_of_a_real_store(
    fixture_store: Store, run_json: Json, run_text: Callable[..., Any]
) -> None:
    directory = fixture_store("compacted")
    code, document = run_json("segments", directory)
    assert code == 0
    assert shape(document) == {
        "store": "str",
        "no_head": "NoneType",
        "tars": [{"name": "str", "closed": "bool", "file_bytes": "int", **KINDS}],
        "generations": [{"kind": "str", **GENERATION, **COUNT, "needed": COUNT}],
        "total": KINDS,
    }
    total = document["total"]
    assert (total["data"]["segments"], total["bulk"]["segments"]) == (10, 25)
    assert total["needed"]["segments"] == 26
    tars = document["tars"]
    assert [tar["name"] for tar in tars] == sorted(tar["name"] for tar in tars)
    for kind in ("data", "bulk", "needed"):
        for unit in ("segments", "bytes"):
            assert sum(tar[kind][unit] for tar in tars) == total[kind][unit]
    assert sum(each["bytes"] for each in document["generations"]) == (
        total["data"]["bytes"] + total["bulk"]["bytes"]
    )
    triples = [(g["generation"], g["full"], g["compacted"]) for g in document["generations"][:-1]]
    assert triples == [(0, 0, False), (1, 1, False), (1, 1, True), (2, 2, False), (2, 2, True)]
    assert document["generations"][-1]["kind"] == "bulk"
    code, printed = run_text("segments", directory)
    assert code == 0
    assert printed[-1] == "35 segments of 1.2 MiB in 8 tars; the head needs 26 of 844.1 KiB (66 %)"


def test_segments_of_a_killed_store_are_those_of_the_open_tar(
    fixture_store: Store, run_json: Json
) -> None:
    document = run_json("segments", fixture_store("killed"))[1]
    assert [tar["closed"] for tar in document["tars"]] == [False]
    assert document["total"]["data"]["segments"] == 7
    assert document["total"]["bulk"]["segments"] == 52


def test_segments_without_a_head_are_counted_still(
    healthy: Path, run_json: Json, run_text: Callable[..., Any]
) -> None:
    (healthy / "journal.log").unlink()
    code, document = run_json("segments", healthy)
    assert code == 0
    assert document["total"]["needed"] == {"segments": 0, "bytes": 0}
    assert "journal.log is missing" in document["no_head"]
    assert run_text("segments", healthy)[1][-1].startswith("no head  ")


# journal


def test_journal(healthy: Path, run_json: Json, run_text: Callable[..., Any]) -> None:
    gone = hm.data(0x77)
    (healthy / "journal.log").write_bytes(hm.line(gone, 5, 1000) + hm.line(LOW) + hm.line(TOP))
    code, document = run_json("journal", healthy)
    assert code == 0
    assert shape(document) == {
        "store": "str",
        "lines": [
            {
                **RECORD,
                "time_ms": "int",
                "time": "str",
                "offset": "int",
                "present": "bool",
                "generation": GENERATION,
                "missing": "NoneType",
            }
        ],
        "more": "bool",
    }
    assert [line["segment"] for line in document["lines"]] == [
        text(piece.segment) for piece in (TOP, LOW, gone)
    ]
    assert [line["present"] for line in document["lines"]] == [True, True, False]
    assert document["lines"][2]["time"] == "1970-01-01T00:00:01.000Z"
    code, printed = run_text("journal", healthy)
    assert [line.split()[0] for line in printed] == [
        "time",
        TIME,
        TIME,
        "1970-01-01T00:00:01.000Z",
    ]
    assert printed[1].endswith("generation 0/0, the head")
    assert printed[3].endswith("gone")


def test_journal_verify_tells_whether_all_is_there(
    tmp_path: Path, run_json: Json, run_text: Callable[..., Any]
) -> None:
    broken = hm.data(0x22, hm.bulk(0x33), hm.bulk(0x34))
    tars = {NAME: hm.closed_tar(NAME, (*PIECES, broken))}
    directory = hm.store(tmp_path / "store", tars, hm.line(broken) + hm.line(TOP))
    lines = run_json("journal", "--verify", directory)[1]["lines"]
    assert [line["missing"] for line in lines] == [0, 2]
    printed = run_text("journal", "--verify", directory)[1]
    assert printed[1].endswith("whole, the head")
    assert printed[2].endswith("2 segments missing")


@pytest.mark.parametrize(("limit", "shown"), [(1, 1), (3, 3), (30, 30), (31, 30), (0, 30)])
def test_journal_limit(healthy: Path, run_json: Json, limit: int, shown: int) -> None:
    (healthy / "journal.log").write_bytes(hm.line(LOW) * 29 + hm.line(TOP))
    document = run_json("journal", "--limit", limit, healthy)[1]
    assert len(document["lines"]) == shown
    assert document["more"] == (shown < 30)


def test_journal_that_is_cut_says_so(healthy: Path, run_text: Callable[..., Any]) -> None:
    (healthy / "journal.log").write_bytes(hm.line(TOP) * 21)
    printed = run_text("journal", healthy)[1]
    assert len(printed) == 22
    assert "--limit" in printed[-1]


def test_journal_without_lines(healthy: Path, run_text: Callable[..., Any]) -> None:
    (healthy / "journal.log").write_bytes(b"")
    assert run_text("journal", healthy) == (0, [f"{healthy}/journal.log names no head"])


# check


def test_check(healthy: Path, run_json: Json, run_text: Callable[..., Any]) -> None:
    code, document = run_json("check", healthy)
    assert code == 0
    assert shape(document) == {
        "store": "str",
        "head": THE_HEAD,
        "newest": "str",
        "tars": "int",
        "segments": "int",
        "bytes": "int",
        "closure": COUNT,
        "faults": "int",
        "notes": "int",
        "findings": [],
    }
    assert document["segments"] == document["closure"]["segments"] == 3
    code, printed = run_text("check", healthy)
    assert code == 0
    assert printed[-1] == "no fault"
    assert printed[0].startswith("checked     3 segments in 1 tar, 7.5 KiB in 0.")


def test_check_of_a_damaged_store(
    healthy: Path, run_json: Json, run_text: Callable[..., Any]
) -> None:
    hm.flip(healthy / NAME, 600)
    code, document = run_json("check", healthy)
    assert code == 1
    assert shape(document["findings"]) == [
        {"severity": "str", "file": "str", "offset": "int", "what": "str", "remedy": "str"}
    ]
    assert document["faults"] == 1
    assert document["findings"][0]["file"] == NAME
    assert document["findings"][0]["offset"] == 512
    code, printed = run_text("check", healthy)
    assert code == 1
    assert printed[0].startswith(f"FAULT  {NAME}, offset 512: segment {text(BULK.segment)} is dam")
    assert printed[1].startswith("       remedy: stop the writer and let `tarfailover repair`")
    assert printed[-1] == "1 fault"


def test_check_counts_notes_and_tells_of_an_older_head(
    healthy: Path, run_text: Callable[..., Any]
) -> None:
    with (healthy / "journal.log").open("ab") as journal:
        journal.write(hm.line(hm.data(0x77)))
    code, printed = run_text("check", healthy)
    assert code == 1
    assert printed[0].startswith("note   journal.log, offset ")
    assert any("an older head" in line for line in printed)
    assert printed[-1] == "1 fault, 1 note"


def test_check_without_a_head(healthy: Path, run_json: Json, run_text: Callable[..., Any]) -> None:
    (healthy / "journal.log").unlink()
    code, document = run_json("check", healthy)
    assert (code, document["head"], document["newest"]) == (1, None, None)
    assert "head     none that can be used" in run_text("check", healthy)[1]


# compare


def test_compare_equal(healthy: Path, run_json: Json, run_text: Callable[..., Any]) -> None:
    code, document = run_json("compare", healthy, healthy)
    assert code == 0
    assert shape(document) == {
        "left": "str",
        "right": "str",
        "same": "bool",
        "heads": [THE_HEAD],
        "segments": "int",
        "bytes": "int",
        "differences": [],
    }
    assert document["same"] is True
    assert len(document["heads"]) == 2
    code, printed = run_text("compare", healthy, healthy)
    assert code == 0
    assert printed[-1] == "equal"


def test_compare_different(
    healthy: Path, tmp_path: Path, run_json: Json, run_text: Callable[..., Any]
) -> None:
    changed = hm.Piece(BULK.segment, BULK.data[:5] + b"\0" + BULK.data[6:])
    tars = {NAME: hm.closed_tar(NAME, (changed, LOW, TOP))}
    other = hm.store(tmp_path / "other", tars, hm.line(TOP))
    code, document = run_json("compare", healthy, other)
    assert (code, document["same"]) == (1, False)
    assert shape(document["differences"]) == [
        {"kind": "str", "segment": "str", "offset": "int", "what": "str"}
    ]
    assert document["differences"][0]["segment"] == text(BULK.segment)
    assert document["differences"][0]["offset"] == 5
    code, printed = run_text("compare", healthy, other)
    assert code == 1
    assert printed[0].startswith("DIFFERS  bulk segment ")
    assert printed[-1] == "not equal: 1 difference"


# digest


def test_digest_is_that_of_oak(
    fixture_store: Store, run_json: Json, run_text: Callable[..., Any]
) -> None:
    directory = fixture_store("killed")
    code, document = run_json("digest", directory)
    assert code == 0
    assert shape(document) == {
        "store": "str",
        "head": RECORD,
        "nodes": "int",
        "properties": "int",
        "blob_bytes": "int",
        "sha256": "str",
    }
    digest = "498035742158f7ea10111ac9372062eea5974b650460abe4a95f646ea3e20888"
    assert document["sha256"] == digest
    assert (document["nodes"], document["properties"]) == (1582, 6259)
    assert run_text("digest", directory)[1][0] == f"digest      {digest}"


# sample

FEW = ("--nodes", "30", "--binary-kib", "20", "--commits", "2")


def test_sample_is_the_same_for_a_seed(tmp_path: Path, run_json: Json) -> None:
    documents = [
        run_json("sample", tmp_path / name, *FEW, "--seed", seed)[1]
        for name, seed in (("a", 4), ("b", 4), ("c", 5))
    ]
    assert shape(documents[0]) == {
        "store": "str",
        "head": RECORD,
        "run": "str",
        "nodes": "int",
        "commits": "int",
        "seed": "int",
    }
    assert documents[0]["head"] == documents[1]["head"] != documents[2]["head"]
    bytes_of = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "abc"
    ]
    assert bytes_of[0] == bytes_of[1] != bytes_of[2]
    assert run_json("check", tmp_path / "a")[0] == 0
    assert run_json("compare", tmp_path / "a", tmp_path / "b")[0] == 0
    assert run_json("compare", tmp_path / "a", tmp_path / "c")[0] == 1


def test_sample_appends_only_when_asked(
    tmp_path: Path, run_json: Json, run_text: Callable[..., Any]
) -> None:
    directory = tmp_path / "deep" / "store"
    code, printed = run_text("sample", directory, *FEW)
    assert code == 0
    assert printed[2] == "added  30 nodes in 2 commits"
    before = run_json("head", directory)[1]["head"]
    code, document = run_json("sample", directory, *FEW)
    assert code == errors.ConfigError.exit_code
    assert "--append" in document["error"]["message"]
    assert run_json("head", directory)[1]["head"] == before
    assert run_json("sample", directory, "--append", "--nodes", 10, "--commits", 1)[0] == 0
    after = run_json("head", directory)[1]["head"]
    assert after["time_ms"] > before["time_ms"]
    code, document = run_json("check", directory)
    assert (code, document["findings"]) == (0, [])
    assert len(run_json("journal", directory)[1]["lines"]) == 3


def test_sample_wants_a_store_to_append_to(tmp_path: Path, run_json: Json) -> None:
    code, _ = run_json("sample", tmp_path / "none", "--append")
    assert code == errors.NotAStoreError.exit_code
    assert not (tmp_path / "none").exists()


def test_sample_respects_the_lock(healthy: Path, run_json: Json) -> None:
    with RepositoryLock.acquire(healthy):
        code, document = run_json("sample", healthy, "--append")
    assert code == errors.StoreLockedError.exit_code
    assert document["error"]["kind"] == "StoreLockedError"


# what all of them have in common


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize("name", ["compacted", "killed"])
def test_reading_changes_nothing(fixture_store: Store, name: str, command: str) -> None:
    directory = fixture_store(name)
    before = hm.contents(directory)
    assert main([command, str(directory)]) == 0
    assert hm.contents(directory) == before


@pytest.mark.parametrize("command", READERS)
def test_reading_takes_no_lock(healthy: Path, command: str) -> None:
    with RepositoryLock.acquire(healthy):
        assert main([command, str(healthy)]) == 0


@pytest.mark.parametrize("command", [*READERS, "digest"])
def test_what_is_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    code = errors.NotAStoreError.exit_code
    assert main([command, str(tmp_path)]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"tarfailover: {tmp_path} holds no segment store\n"
    assert main([command, "--json", str(tmp_path)]) == code
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {
        "error": {
            "kind": "NotAStoreError",
            "message": f"{tmp_path} holds no segment store",
            "exit_code": code,
        }
    }
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("command", ["head", "digest"])
def test_a_store_without_a_head(healthy: Path, run_json: Json, command: str) -> None:
    (healthy / "journal.log").unlink()
    assert run_json(command, healthy)[0] == errors.NoHeadError.exit_code


@pytest.mark.parametrize("command", [*READERS, "digest"])
def test_a_legacy_store(healthy: Path, run_json: Json, command: str) -> None:
    (healthy / "manifest").unlink()
    code, document = run_json(command, healthy)
    assert code == errors.UnsupportedStoreError.exit_code
    assert "oak-upgrade" in document["error"]["message"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["head"],
        ["head", "a", "b"],
        ["compare", "a"],
        ["journal", "--limit", "-1", "a"],
        ["sample", "a", "--commits", "0"],
        ["sample", "a", "--nodes", "many"],
    ],
)
def test_a_wrong_command_line_ends_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == errors.ConfigError.exit_code
    assert capsys.readouterr().err.startswith("usage: tarfailover")
    assert not Path("a").exists()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"tarfailover {tarfailover.__version__}\n"


@pytest.mark.parametrize("command", [*READERS, "digest", "compare", "sample"])
def test_help_has_examples_and_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    printed = capsys.readouterr().out
    assert f"examples:\n  tarfailover {command} " in printed
    codes = re.findall(r"(?m)^ +(\d+)  \w", printed[printed.index("exit codes:") :])
    assert codes == sorted(codes, key=int)
    assert {"0", "2", "11", "130"} <= set(codes)
    assert ("1" in codes) == (command in {"check", "compare"})
    assert max(map(len, printed.splitlines())) <= 100


def test_an_interrupt_ends_with_130(
    healthy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_directory: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tarfailover.cli.reading.Follower.open", interrupted)
    assert main(["head", str(healthy)]) == 130
    assert capsys.readouterr().err == "tarfailover: interrupted\n"


def test_an_error_of_the_system_is_told_in_one_line(
    healthy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(_directory: Path) -> None:
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr("tarfailover.cli.reading.Follower.open", refused)
    assert main(["head", str(healthy)]) == errors.StoreIOError.exit_code
    said = "tarfailover: /some/file: Permission denied; check path and rights\n"
    assert capsys.readouterr().err == said


def test_a_defect_of_ours_is_not_hidden(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(_directory: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("tarfailover.cli.reading.Follower.open", defect)
    with pytest.raises(ZeroDivisionError):
        main(["head", str(healthy)])
