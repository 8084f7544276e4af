"""``check --deep``: what it prints of whole and of damaged stores, and its exit codes."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import content
import pytest

from tarfailover import repository
from tarfailover.cli import commands, deep, main
from tarfailover.ids import RecordId, text
from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.commit import RepositoryWriter
from tarfailover.repository.records import long_value_draft
from tarfailover.repository.values import Property, StoredBlob

Json = Callable[..., tuple[int, Any]]
Text = Callable[..., tuple[int, list[str]]]


def page(number: int) -> content.Edit:
    def edit(root: NodeBuilder, writer: RepositoryWriter) -> None:
        blob = writer.blob(random.Random(number).randbytes(17_000))
        root.child("content").child(f"page{number}").set("data", Property.of(blob))

    return edit


@pytest.fixture
def store(tmp_path: Path) -> Path:
    content.write(tmp_path / "store", *map(page, range(4)))
    return tmp_path / "store"


def flip(store: Path, path: str, name: str) -> tuple[RecordId, str, int]:
    """Change a bit in the middle of a binary; the block, and where its segment lies."""
    with repository.open(store) as opened:
        blob = opened.node(path).properties[name].binary.blob
        [block, *_] = opened.reader.block_ids(blob)
        tar, entry = opened.snapshot.entry(block.segment)
    with tar.path.open("r+b") as file:
        file.seek(entry.position + 5000)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 4]))
    return block, tar.path.name, entry.position


def test_a_whole_store(store: Path, run_text: Text, run_json: Json) -> None:
    code, lines = run_text("check", "--deep", store)
    assert code == 0
    assert lines[0].startswith("checked  7 nodes, 4 properties, 66.4 KiB of binaries in ")
    assert lines[-1] == "no fault"
    code, document = run_json("check", "--deep", store)
    assert (code, document["finished"], document["findings"]) == (0, True, [])
    assert (document["nodes"], document["binary_bytes"], document["whole"]) == (7, 68000, None)


def test_a_flipped_bit_is_told_with_path_record_tar_offset_and_the_head_that_is_whole(
    store: Path, run_text: Text, run_json: Json
) -> None:
    block, tar, offset = flip(store, "/content/page2", "data")
    heads = [line.split()[1] for line in run_text("log", store)[1][1:]]
    code, lines = run_text("check", "--deep", store)
    assert code == 1
    assert lines[0].startswith(f"FAULT  {tar}, offset {offset}: ")
    assert "checksum" in lines[0] and lines[0].count(tar) == 1
    assert lines[1:5] == [
        "       path    /content/page2",
        "       part    property data",
        f"       record  {block}",
        "       lost    17,000 of 17,000 bytes, from byte 0 on",
    ]
    assert any(line.startswith(f"whole    the head {heads[2]} of ") for line in lines)
    assert lines[-1] == "1 fault"
    code, document = run_json("check", "--deep", store)
    assert (code, document["faults"]) == (1, 1)
    assert document["findings"] == [
        {
            "path": "/content/page2",
            "part": "property data",
            "record": str(block),
            "file": tar,
            "offset": offset,
            "what": document["findings"][0]["what"],
            "lost": "17,000 of 17,000 bytes, from byte 0 on",
        }
    ]
    assert document["whole"]["head"]["id"] == heads[2]
    assert document["whole"]["all_looked_at"] is True
    assert run_json("check", "--deep", "--at", "head~2", store)[0] == 0


def test_many_damages_of_one_segment_are_counted(
    tmp_path: Path, run_text: Text, run_json: Json
) -> None:
    def edit(root: NodeBuilder, writer: RepositoryWriter) -> None:
        """Many long values over one list of blocks."""
        blocks = writer._tree.reader.value(writer.blob(bytes(17_000)).record).blocks
        assert blocks is not None
        for number in range(30):
            record = writer._tree.records.segments.write(long_value_draft(17_000, blocks))
            root.child(f"n{number}").set("data", Property.of(StoredBlob(record, 17_000)))

    content.write(tmp_path / "many", edit)
    block, *_ = flip(tmp_path / "many", "/n0", "data")
    document = run_json("check", "--deep", tmp_path / "many")[1]
    assert (document["faults"], len(document["findings"])) == (30, 10)
    assert document["not_listed"] == {text(block.segment): 20}
    assert document["whole"] == {"head": None, "checkpoints": [], "all_looked_at": True}
    lines = run_text("check", "--deep", tmp_path / "many")[1]
    assert f"FAULT  20 more records of segment {text(block.segment)}" in lines
    assert "whole    none of the older heads" in lines


def test_a_damaged_head_is_a_fault_and_no_failure(store: Path, run_json: Json) -> None:
    with repository.open(store) as opened:
        tar, entry = opened.snapshot.entry(opened.head.record.segment)
        head = opened.head.record
    with tar.path.open("r+b") as file:
        file.seek(entry.position + entry.length - 9)
        file.write(b"\xff")
    code, document = run_json("check", "--deep", store)
    assert code == 1
    assert document["head"]["id"] == str(head)
    assert document["findings"][0]["path"] == "above /: /"
    assert document["whole"]["head"] is not None


def test_a_newest_head_that_cannot_be_used_is_a_fault(
    store: Path, run_text: Text, run_json: Json
) -> None:
    gone = f"{RecordId(bytes(8) + bytes([0xA0]) + bytes(7), 1)}"
    with (store / "journal.log").open("a") as file:
        file.write(f"{gone} root 1\n")
    code, lines = run_text("check", "--deep", store)
    assert code == 1
    assert lines[0] == f"FAULT  journal.log: {gone}: its segment is in no tar"
    assert lines[-1] == "1 fault"
    document = run_json("check", "--deep", store)[1]
    assert (document["faults"], document["findings"]) == (1, [])
    assert document["skipped"] == [f"{gone}: its segment is in no tar"]
    assert run_json("check", "--deep", "--at", "head", store)[0] == 0


def test_cut_off_and_resumed(
    store: Path, tmp_path: Path, run_text: Text, run_json: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(store, "/content/page2", "data")
    now = [0.0]

    def ticking() -> float:
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(deep.time, "monotonic", ticking)
    file = tmp_path / "resume"
    cut = ("check", "--deep", "--max-duration", "8", "--resume", file, store)
    codes = []
    for _ in range(100):
        code, document = run_json(*cut)
        codes.append(code)
        if document["finished"]:
            break
        assert file.exists()
    assert codes[0] == 3
    assert codes[-1] == 1
    assert document["nodes"] == 7
    assert len(codes) > 2
    assert not file.exists()
    code, lines = run_text(*cut)
    assert (code, lines[-1]) == (3, "no fault until the time was over; the same command goes on")
    assert run_text("check", "--deep", "--max-duration", "1", store)[1][-1].endswith(
        "--resume FILE goes on"
    )


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--at", "head"), "--at goes with --deep"),
        (("--max-duration", "9"), "--max-duration goes with --deep"),
        (("--deep", "--resume", "STORE/x"), "nothing is written into the store"),
    ],
)
def test_wrong_options(
    store: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str
) -> None:
    given = [each.replace("STORE", str(store)) for each in arguments]
    assert main(["check", *given, str(store)]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    ("written", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86_400)]
)
def test_durations(written: str, seconds: int) -> None:
    assert commands.duration(written) == seconds


@pytest.mark.parametrize("written", ["0", "-1", "1.5", "1w", "", "10 m"])
def test_what_is_no_duration(written: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check", "--deep", f"--max-duration={written}", "x"])
    assert "is no duration" in capsys.readouterr().err


def test_external_binaries_are_counted(tmp_path: Path, run_text: Text) -> None:
    def edit(root: NodeBuilder, writer: RepositoryWriter) -> None:
        root.set("far", Property.of(content.external(writer, "abc#5")))

    content.write(tmp_path / "far", edit)
    lines = run_text("check", "--deep", tmp_path / "far")[1]
    assert "binaries  1 in an external blob store, which was not looked at" in lines
