"""What a slave and a master agree on: the version and the features of the dialect.

A HELLO offers a range of versions and some features; the master takes the highest
version that both speak and, of the features, those that it supports too, in its own
order of preference. The slave believes a WELCOME only within what it offered.
"""

from __future__ import annotations

from collections.abc import Sequence

from tarfailover.errors import ProtocolError
from tarfailover.wire.messages import LOWEST_VERSION, VERSION, Hello, Welcome

ZSTD = "zstd"
"""PACKED is understood, and sent where the master finds that it pays."""
ZSTD_ALWAYS = "zstd-always"
"""Besides: wherever segments get smaller by it, however fast the link is."""
DIGEST = "digest"
"""DIGEST is understood."""
FOLLOW = "follow"
"""FOLLOW is understood: a new head comes with what is new, without a round trip for either."""
SUPPORTED = (DIGEST, FOLLOW)
"""What a master supports, whatever its settings."""
BLOBS = "blobs"
"""BLOB is answered: the master has the binaries of an external blob store."""
_COMPRESSION = {"none": (), "auto": (ZSTD,), "zstd": (ZSTD, ZSTD_ALWAYS)}


class VersionError(ProtocolError):
    """No version of the dialect is spoken by both; the text names both ranges and the remedy.

    A master answers with it as the text of an `ErrorCode.VERSION`.
    """


def choose_version(hello: Hello) -> int:
    """The highest version that the slave and this master speak; raises VersionError."""
    version = min(hello.highest, VERSION)
    if version < max(hello.lowest, LOWEST_VERSION):
        older = "slave" if hello.highest < LOWEST_VERSION else "master"
        raise VersionError(
            f"no version of the protocol in common: the slave speaks"
            f" {_range(hello.lowest, hello.highest)}, the master"
            f" {_range(LOWEST_VERSION, VERSION)}; update the {older}"
        )
    return version


def choose_features(offered: Sequence[str], supported: Sequence[str]) -> tuple[str, ...]:
    """The features that both sides have, once each, in the order of `supported`."""
    return tuple(name for name in dict.fromkeys(supported) if name in offered)


def compression_offered(setting: str) -> tuple[str, ...]:
    """The features that a slave offers whose `compression` is auto, zstd or none."""
    return _COMPRESSION[setting]


def compression_supported(setting: str) -> tuple[str, ...]:
    """The features that a master supports whose `compression` is auto, zstd or none."""
    return _COMPRESSION["none" if setting == "none" else "zstd"]


def check_welcome(hello: Hello, welcome: Welcome) -> None:
    """Raise ProtocolError if the answer to `hello` chose what it did not offer."""
    if not hello.lowest <= welcome.version <= hello.highest:
        raise ProtocolError(
            f"the master chose version {welcome.version} of the protocol, but was offered"
            f" {_range(hello.lowest, hello.highest)}; update the older side"
        )
    if len(set(welcome.features)) < len(welcome.features):
        raise ProtocolError("the master chose a feature twice; update the older side")
    unasked = [name for name in welcome.features if name not in hello.features]
    if unasked:
        raise ProtocolError(
            f"the master chose features that were not offered: {unasked}; update the older side"
        )


def _range(lowest: int, highest: int) -> str:
    return f"version {lowest}" if lowest == highest else f"versions {lowest} to {highest}"
