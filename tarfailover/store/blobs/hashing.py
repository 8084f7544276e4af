"""Digests of blobs."""

from __future__ import annotations

import hashlib


def hasher_for(digest: str) -> hashlib._Hash:
    """What computes digests of the kind of `digest`: 64 hex digits are SHA-256, 40 SHA-1."""
    # SHA-1 is the name of old files, and no secret depends on it.
    return hashlib.sha256() if len(digest) == 64 else hashlib.sha1(usedforsecurity=False)
