"""What a slave says of itself on its status page."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from tarfailover.reports import Document, expiries, moment, opening
from tarfailover.slave import status
from tarfailover.slave.scrubbing import DAMAGED

if TYPE_CHECKING:
    from tarfailover.slave.service import SlaveService

SHOWN = 10
"""Missing binaries that are shown; `tarfailover blobs missing` shows all."""


def report(slave: SlaveService) -> Document:
    """All there is to know, as fields that MANUAL.md lists; times in seconds and ISO 8601."""
    told, config, now = slave.status, slave.config, slave.seconds()
    head = slave.copy.head if slave.copy else None
    return {
        **opening("slave", now, slave.started),
        "state": told.state,
        "why": told.why,
        "since": moment(told.since),
        "store": str(config.store),
        "master": f"{config.master_host}:{config.port}",
        **_master(slave),
        "head": str(head) if head else None,
        "head_time": moment(slave.copy.time) if slave.copy and head else None,
        "lag_seconds": lag(slave),
        "answer_age_seconds": _age(slave.answered, now),
        "transfer": _transfer(slave),
        "last_transfer": _last_transfer(slave),
        **_blobs(slave),
        "cycles": told.cycles,
        "failures": told.failures,
        "failures_by_kind": dict(told.kinds),
        "last_failure": told.trouble,
        "cleanups": told.cleanups,
        "cleanup_failures": told.cleanup_failures,
        "cleanup_due": slave.copy.cleanup_due if slave.copy else None,
        "scrub": slave.scrubbing.report(),
        "attempts_to_connect": slave.attempts,
        "bytes_received": slave.received,
        "tls": expiries(slave.expiries(), now),
    }


def health(slave: SlaveService) -> tuple[bool, str]:
    """Well is a slave that has a head and follows, and of which no byte is known to be damaged.

    The word is ``ok``, ``damaged``, or the state.
    """
    state = slave.status.state
    has_head = slave.copy is not None and slave.copy.head is not None
    if state == status.IN_SYNC or (state == status.SYNCING and has_head):
        return (False, DAMAGED) if slave.scrubbing.damaged else (True, "ok")
    return False, state


def lag(slave: SlaveService) -> float | None:
    """For how long the master has had a head that is not durable here; 0 if none is known.

    In seconds from when the master's store had it; None while nothing is known of it.
    """
    wanted, copy = slave.wanted, slave.copy
    if wanted is None:
        return None
    if copy is not None and copy.head == wanted.head:
        return 0.0
    return _age(wanted.time_ms / 1000, slave.seconds())


def _age(then: float | None, now: float) -> float | None:
    return None if then is None else round(max(0.0, now - then), 3)


def _master(slave: SlaveService) -> Document:
    """What the master said of itself, now or before."""
    welcome = slave.welcome
    return {
        "master_software": welcome.software if welcome else None,
        "repository": welcome.repository if welcome else None,
        "epoch": welcome.epoch if welcome else None,
    }


def _transfer(slave: SlaveService) -> Document | None:
    """How far the transfer is that is under way."""
    if slave.transfer is None or slave.status.state != status.SYNCING:
        return None
    found = slave.transfer.progress()
    return {
        "head": str(slave.wanted.head) if slave.wanted else None,
        "seconds": round(slave.transfer.seconds, 3),
        "segments": found.segments,
        "bytes": found.size,
        "segments_left": found.segments_left,
        "bytes_left": found.size_left,
        "blobs": found.blobs,
        "blob_bytes": found.blob_size,
        "blobs_left": found.blobs_left,
        "blob_bytes_left": found.blob_size_left,
    }


def _last_transfer(slave: SlaveService) -> Document | None:
    """When the last head was brought that came since the start."""
    last = slave.bringing.last
    if last is None:
        return None
    return {
        "head": str(last.head),
        "began": moment(last.began),
        "ended": moment(last.ended),
        "seconds": round(last.ended - last.began, 3),
    }


def _blobs(slave: SlaveService) -> Document:
    """The external binaries: where they are, and what of them is missing."""
    copy = slave.copy
    missing = copy.blobs.missing if copy and copy.blobs else {}
    shown = [
        {"id": blob, "paths": list(each.paths), "why": each.why, "since": moment(each.since)}
        for blob, each in islice(missing.items(), SHOWN)
    ]
    return {
        "blob_store": slave.config.blob_store or None,
        "blobs_missing": len(missing),
        "missing_blobs": shown,
    }
