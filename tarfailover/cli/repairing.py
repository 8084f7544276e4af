"""``verify`` and ``repair``: a store beside its master's, over the link."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from tarfailover import errors
from tarfailover.cli import commands, peering
from tarfailover.cli.commands import CHECKING, DIFFERS, READING, Subparsers
from tarfailover.cli.output import Output
from tarfailover.cli.wording import Document, many, size
from tarfailover.config import SlaveConfig
from tarfailover.ids import text
from tarfailover.store.blobs.missing import MissingBlobs
from tarfailover.store.blobs.opening import open_blob_store
from tarfailover.store.blobs.store import BlobStore
from tarfailover.store.durable import Disk
from tarfailover.store.follower import Follower
from tarfailover.store.lock import RepositoryLock
from tarfailover.store.repair.blobs import BlobRepair
from tarfailover.store.repair.run import StoreRepair
from tarfailover.store.repair.supply import Outcome

if TYPE_CHECKING:
    from tarfailover.cli.digesting import Found, Verification

UNFINISHED = 3
"""The time was over before the end, and nothing was found until then."""
LINK = (
    errors.ProtocolError,
    errors.PeerError,
    errors.DeadlineError,
    errors.ConnectionLostError,
    errors.DivergedError,
    errors.TlsError,
)
_RATE = re.compile(r"([1-9][0-9]{0,9}) ?(KiB|MiB|GiB)?")
_FACTOR = {None: 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def declare(group: Subparsers) -> None:
    """Add the commands of this module."""
    parser = commands.add(
        group,
        "verify",
        _verify,
        "Compare a store with its master's, byte for byte, without fetching it",
        description="Both sides read each segment from the disk, and compare digests (SHA-256 "
        "under a salt that is new each time); some 60 bytes for each segment go over the link. "
        "External binaries of this side are compared with the digests in their names. "
        "Says on which side a segment is damaged, by the checksum in its name. Beside that, "
        "headers, padding, indexes, graphs and binary references of this side are looked at. The "
        "slave may run meanwhile. `repair` mends what is damaged here.",
        examples=(
            "tarfailover verify --master 10.0.0.1 /copy/segmentstore",
            "tarfailover verify --config /etc/tarfailover/slave.config --rate 20MiB DIR",
            "tarfailover verify --master HOST --max-duration 1h --resume /var/tmp/verify DIR",
        ),
        raises=(*READING, *LINK),
        found={
            DIFFERS: "something differs, or is damaged or missing",
            UNFINISHED: "--max-duration was over before the end; no difference until then",
        },
    )
    _common(parser, "--master")
    parser.add_argument(
        "--max-duration",
        type=commands.duration,
        metavar="TIME",
        help="stop after this many seconds, or 10m, or 2h",
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="keep in FILE how far it came, and go on from there; removed at the end",
    )
    parser.add_argument(
        "--rate", type=_rate, default=0, metavar="BYTES", help="read no more than this a second"
    )
    parser = commands.add(
        group,
        "repair",
        _repair,
        "Mend what rotted in a store, with another copy",
        description="Reads the whole store, and fetches what is damaged or missing from a master "
        "that serves another copy, and nothing else: for a slave its master; for a master's store "
        "a master that is started on the directory of a slave. Only bytes that are wrong are "
        "written, over themselves; a tar whose parts cannot be told apart any more is written "
        "anew. The store must not be open for writing elsewhere: stop the slave, or Oak. A "
        "running slave mends its copy by itself: see scrub.rate.",
        examples=(
            "tarfailover repair --master 10.0.0.1 /copy/segmentstore",
            "tarfailover repair --from SLAVE --port 8024 /data/repository/segmentstore",
        ),
        raises=(*CHECKING, errors.StoreLockedError, errors.DamagedStoreError, *LINK),
        found="something could not be mended",
    )
    _common(parser, "--from", "--master")


def _common(parser: argparse.ArgumentParser, *names: str) -> None:
    commands.store_argument(parser)
    peering.arguments(parser, *names)


def _rate(written: str) -> int:
    match = _RATE.fullmatch(written)
    if match is None:
        raise argparse.ArgumentTypeError(f"{written!r} is no number of bytes such as 20MiB")
    return int(match[1]) * _FACTOR[match[2]]


# verify


def _verify(options: argparse.Namespace, output: Output) -> int:
    # These bring the network with them, which takes other commands too long.
    from tarfailover.cli import digesting  # noqa: PLC0415
    from tarfailover.cli.peer import connected  # noqa: PLC0415

    if options.resume and options.resume.resolve().parent == options.store.resolve():
        raise errors.ConfigError(f"--resume {options.resume}: nothing is written into the store")
    config = peering.config_of(options)
    master = f"{config.master_host}:{config.port}"
    state = digesting.load(options.resume, options.store, master)

    def keep() -> None:
        if options.resume:
            digesting.save(options.resume, state)

    with connected(config) as peer:
        peer.refuse_old()
        verification = digesting.Verification(
            options.store,
            peer,
            state,
            _own_blobs(config),
            seconds=options.max_duration,
            rate=options.rate,
        )
        for found in map(digesting.Found._make, state.told):
            _tell(output, found)
        try:
            with output.progress("verifying") as progress:
                for found in verification.run(progress, keep):
                    _tell(output, found)
        finally:
            keep()
    if options.resume and verification.finished:
        options.resume.unlink(missing_ok=True)
    _tell_verified(options, output, verification, master)
    if state.findings:
        return DIFFERS
    return 0 if verification.finished else UNFINISHED


def _tell(output: Output, found: Found) -> None:
    place = found.file or "no file"
    if found.offset is not None:
        place += f", offset {found.offset}"
    output.marked(f"{found.kind.upper()}, {found.side}", f"{place}: {found.what}", "bold red")


def _tell_verified(
    options: argparse.Namespace, output: Output, verification: Verification, master: str
) -> None:
    state, head = verification.state, verification.head
    output.document(
        {
            "store": str(options.store),
            "master": master,
            "head": str(head.head) if head else None,
            "finished": verification.finished,
            "segments": state.segments,
            "bytes": state.bytes,
            "only_here": state.alone,
            "behind": verification.behind,
            "bytes_received": state.wire,
            "binaries": state.binaries,
            "differences": state.findings,
            "findings": [dict(zip(_FIELDS, each, strict=True)) for each in state.told],
        }
    )
    equal = f"{many(state.segments, 'segment')} of {size(state.bytes)} on both sides"
    facts = [("equal", equal), ("came", f"{size(state.wire)} over the link")]
    if state.binaries:
        facts.append(("binaries", f"{state.binaries:,} are what their names say"))
    if state.alone:
        facts.append(("only here", f"{many(state.alone, 'segment')}, by their own checksums whole"))
    if verification.behind:
        facts.append(("behind", f"{many(verification.behind, 'segment')} of a newer head"))
    output.facts(facts)
    output.line(verification.verdict(), "bold red" if state.findings else "bold green")


_FIELDS = ("side", "kind", "segment", "file", "offset", "what")


# repair


def _repair(options: argparse.Namespace, output: Output) -> int:
    from tarfailover.cli.peer import connected  # noqa: PLC0415
    from tarfailover.cli.stranger import refuse_stranger  # noqa: PLC0415

    outcomes: list[Document] = []
    config = peering.config_of(options)
    blobs = _own_blobs(config)
    with connected(config) as peer, output.progress("repairing") as progress:
        repair = StoreRepair(options.store, peer, disk=Disk(), clock=time.time, progress=progress)
        with repair.snapshot() as snapshot:
            refuse_stranger(options.store, snapshot, peer)
        binaries = None if blobs is None else BlobRepair(blobs, peer)
        found = chain(repair.run(), _binaries(options.store, binaries) if binaries else ())
        for outcome in found:
            outcomes.append(_outcome_document(outcome))
            _tell_outcome(output, outcome)
    mended = sum(each["mended"] for each in outcomes)
    left = len(outcomes) - mended
    output.document(
        {
            "store": str(options.store),
            "tars": repair.tars,
            "bytes": repair.bytes,
            "found": len(outcomes),
            "mended": mended,
            "fetched": {"segments": repair.supply.segments, "bytes": repair.supply.bytes},
            "binaries": binaries and {"files": binaries.files, "fetched": binaries.fetched},
            "outcomes": outcomes,
        }
    )
    fetched = f"{many(repair.supply.segments, 'segment')} of {size(repair.supply.bytes)}"
    looked = f"{many(repair.tars, 'tar')} of {size(repair.bytes)}"
    facts = [("looked at", looked), ("fetched", fetched)]
    if binaries:
        told = f"{many(binaries.files, 'file')} of {size(binaries.bytes)}"
        facts += [("binaries", f"{told}, fetched {size(binaries.fetched)}")]
    output.facts(facts)
    verdict = f"{mended} of {many(len(outcomes), 'damage')} mended" if outcomes else "no damage"
    output.line(verdict, "bold red" if left else "bold green")
    return DIFFERS if left else 0


def _own_blobs(config: SlaveConfig) -> BlobStore | None:
    """The blob store of this side alone, if it has one."""
    if not config.blob_store or config.blob_store_shared:
        return None
    return open_blob_store(config.blob_store, config.blob_store_kind, create=True)


def _binaries(store: Path, repair: BlobRepair) -> Iterator[Outcome]:
    """The external binaries, once the segments that mention them are mended."""
    left: dict[str, Outcome] = {}
    for outcome in repair.rotten():
        if outcome.mended:
            yield outcome
        else:
            left[outcome.file] = outcome
    with Follower.open(store) as follower:
        head = follower.snapshot.head
        for outcome in repair.missing(follower.snapshot, head.record.segment) if head else ():
            # One that was cut: its whole length is in the id that the segments have.
            if outcome.mended:
                left.pop(outcome.file, None)
            yield outcome
    yield from left.values()
    _unlist(store, repair)


def _unlist(store: Path, repair: BlobRepair) -> None:
    """What the slave has listed as missing, and is here now, is on its list no more."""
    with suppress(errors.StoreLockedError), RepositoryLock.acquire(store):
        # A slave that was started meanwhile does it by itself.
        listed = MissingBlobs.load(store)
        left = {blob: each for blob, each in listed.blobs.items() if not repair.has(blob)}
        if left != listed.blobs:
            MissingBlobs(listed.blob_store, left).save(store, Disk())


def _outcome_document(outcome: Outcome) -> Document:
    segment = None if outcome.segment is None else text(outcome.segment)
    return {**outcome._asdict(), "segment": segment}


def _tell_outcome(output: Output, outcome: Outcome) -> None:
    place = outcome.file if outcome.offset is None else f"{outcome.file}, offset {outcome.offset}"
    mark, style = ("mended", "green") if outcome.mended else ("LEFT  ", "bold red")
    output.marked(mark, f"{place}: {outcome.what}: {outcome.how}", style)
