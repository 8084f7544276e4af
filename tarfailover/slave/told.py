"""What a master tells of itself and of its head, in either dialect."""

from __future__ import annotations

from dataclasses import dataclass

from tarfailover.ids import RecordId
from tarfailover.wire.messages import HeadIs, Welcome


@dataclass(frozen=True)
class OakPrimary:
    """Who answered a first question in Oak's dialect, which has no words for the rest."""

    software: str = "an Oak primary"
    repository: None = None
    epoch: None = None


@dataclass(frozen=True)
class OakHead:
    """A head that an Oak primary told: neither its time nor its generation comes with it."""

    head: RecordId
    time_ms: int
    """When this slave heard of it first, in milliseconds since 1970."""
    known: bool
    """Whether this is the primary that the copy is of."""


Introduction = Welcome | OakPrimary
ToldHead = HeadIs | OakHead


def in_words(told: ToldHead) -> str:
    """A head for people."""
    generation = f", generation {told.generation}" if isinstance(told, HeadIs) else ""
    return f"head {told.head}{generation}"


def why_unknown(told: ToldHead) -> str:
    """Why a master may not know the head of a copy, with places for both."""
    if isinstance(told, OakHead):
        return (
            "the primary does not have the segment of {head}, the head of {copy}: it is another "
            "repository, or was restored from a backup, or it compacted that segment away, as an "
            "offline compaction does"
        )
    return (
        "the master has never had {head}, the head of {copy}: it is another repository, or was "
        "restored from a backup, or its journal was rewritten by an offline compaction"
    )
