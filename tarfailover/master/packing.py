"""Compression of one client's answers: whether the next chunk is packed, and into what."""

from __future__ import annotations

from typing import Any

from tarfailover.access.listeners import is_loopback
from tarfailover.config import MasterConfig
from tarfailover.master.balance import Balance
from tarfailover.wire.compression import Packer
from tarfailover.wire.messages import Hello
from tarfailover.wire.negotiate import (
    BLOBS,
    SUPPORTED,
    ZSTD,
    ZSTD_ALWAYS,
    choose_features,
    compression_supported,
)


class Packing:
    """Lasts as long as the connection; the zstd stream and its memory only while it is used."""

    def __init__(self, level: int, *, always: bool, local: bool = False) -> None:
        self.balance = Balance(local=local)
        self._level = level
        self._always = always
        self._packer: Packer | None = None

    def packer(self, limit: int) -> Packer | None:
        """What packs the next chunk, None if it goes as it is.

        `limit` is what the link is throttled to, in bytes a second; 0 for nothing.
        """
        throttled = 0 < limit < self.balance.speed
        if not (self._always or throttled or self.balance.on):
            return None
        if self._packer is None:
            self._packer = Packer(self._level)
        return self._packer

    def rest(self) -> None:
        """Nothing is asked for: the next chunk begins a new stream."""
        self._packer = None
        self.balance.begin()


def agreed(hello: Hello, config: MasterConfig, peer: Any) -> tuple[tuple[str, ...], Packing | None]:
    """The features for the client at `peer`, and what packs its answers if they are to be."""
    blobs = (BLOBS,) if config.blob_store else ()
    features = choose_features(
        hello.features, (*compression_supported(config.compression), *SUPPORTED, *blobs)
    )
    if ZSTD not in features:
        return features, None
    always = ZSTD_ALWAYS in features or config.compression == "zstd"
    local = is_loopback(getattr(peer, "host", ""))
    return features, Packing(config.compression_level, always=always, local=local)
