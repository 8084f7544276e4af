"""What a master says of itself on its status page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tarfailover.master.connection import Connection
from tarfailover.master.factory import MasterFactory
from tarfailover.master.gate import Gate
from tarfailover.master.visitors import Visitor
from tarfailover.reports import Document, expiries, moment, opening
from tarfailover.wire.messages import ErrorCode

if TYPE_CHECKING:
    from tarfailover.master.service import MasterService

STARTING = "starting"
SERVING = "serving"
HEADLESS = "headless"
BLIND = "blind"
STOPPING = "stopping"


def report(master: MasterService) -> Document:
    """All there is to know, as fields that MANUAL.md lists; times in ISO 8601."""
    now = master.seconds()
    state, why = condition(master)
    factory = master.factory
    return {
        **opening("master", now, master.started),
        "state": state,
        "why": why,
        "store": str(master.config.store),
        "blob_store": master.config.blob_store or None,
        "listening": master.where,
        "repository": master.config.repository,
        **(_served(factory) if factory else {}),
        **(_met(master.gate) if master.gate else {}),
        "looks": master.looks,
        "tls": expiries(master.expiries(), now),
    }


def condition(master: MasterService) -> tuple[str, str]:
    """The state of a master, and why it is in it."""
    factory = master.factory
    if not master.running:
        return STOPPING, ""
    if factory is None or not master.where:
        return STARTING, ""
    if factory.blind:
        return BLIND, factory.blind
    if factory.head is None:
        return HEADLESS, factory.not_ready()
    return SERVING, ""


def health(master: MasterService) -> tuple[bool, str]:
    """Well is a master that serves a head; the word is ``ok`` or the state."""
    state, _ = condition(master)
    return (True, "ok") if state == SERVING else (False, state)


def _served(factory: MasterFactory) -> Document:
    """The store as it is shown to slaves, and the slaves."""
    head = factory.snapshot.head
    return {
        "epoch": factory.epoch,
        "head": str(head.record) if head else None,
        "head_time": moment(head.time_ms / 1000) if head else None,
        "generation": str(head.generation) if head else None,
        "segments": factory.snapshot.count,
        "tars": len(factory.snapshot.tars.readers),
        "clients": [_client(each) for each in sorted(factory.served, key=str)],
        "standbys": [_visitor(each) for each in factory.visitors.all()],
        "bytes_sent": factory.sent + sum(each.sender.sent for each in factory.clients),
        "errors": {_code(code): count for code, count in sorted(factory.errors.items())},
    }


def _met(gate: Gate) -> Document:
    """Who came to the gate, and was not, or not yet, let in."""
    return {"strangers": len(gate.strangers), "refused": dict(sorted(gate.refused.items()))}


def _client(client: Connection) -> Document:
    return {
        "name": client.client,
        "dialect": client.dialect,
        "address": client.peer,
        "state": client.state,
        "connected": moment(client.connected_at),
        "bytes_sent": client.sender.sent,
        "bytes_received": client.received,
        "answers_due": client.sender.queued,
    }


def _visitor(visitor: Visitor) -> Document:
    return {
        "name": visitor.name,
        "address": visitor.address,
        "first_seen": moment(visitor.first),
        "last_seen": moment(visitor.last),
        "runs": visitor.runs,
        "bytes_sent": visitor.sent,
        "head": visitor.head or None,
    }


def _code(code: int) -> str:
    return ErrorCode(code).name if code in ErrorCode.__members__.values() else str(code)
