"""Every number that bounds the native dialect; both sides check, sending as well as receiving."""

from __future__ import annotations

VERSION = 1
"""The newest version of the dialect spoken here."""
LOWEST_VERSION = 1

FRAME_HEADER = 5
"""Bytes of type and request number."""
MAX_HELLO_FRAME = 8 * 1024
"""Bytes of the first frame of a slave, of any version, that a master accepts."""
MAX_REQUEST_FRAME = 128 * 1024
"""Bytes of a frame that a master accepts."""
MAX_ANSWER_FRAME = 128 * 1024
"""Bytes of a frame that a slave accepts."""

MAX_TEXT = 1024
"""Bytes of a text: 255 characters of any kind fit."""
MAX_FEATURES = 32
"""Features in one HELLO or WELCOME."""
MAX_FEATURE = 64
"""Bytes of a feature's name."""
MAX_TOKEN = 256
"""Bytes of the token in a HELLO."""
MAX_CURSOR = 64
"""Bytes of a cursor: a place in the master's tars, opaque to a slave."""

MAX_WAIT_MS = 600_000
"""The longest that a HEAD may ask to wait."""
MAX_AHEAD = 1024 * 1024
"""Bytes of segments that may come behind a list without being asked for."""
MAX_IDS = 4000
"""Segments in one GET or DIGEST."""
SALT_SIZE = 16
"""Bytes of the salt of a DIGEST."""
MAX_LISTED = 3000
"""Segments in one LISTED."""
MAX_PART = 64 * 1024
"""Bytes of a stream in one PART, or packed into one PACKED."""
MAX_PACKED = MAX_PART + 1024
"""Bytes of a PACKED: what cannot be made smaller becomes a few bytes longer."""
MAX_BLOB_ID = 1024
"""Bytes of a blob's id: those of files have less than a hundred."""
MAX_SLICE = 1024 * 1024
"""Bytes of a blob that one BLOB asks for."""
WINDOW_LOG = 19
"""Base 2 logarithm of the bytes that a zstd stream may refer back to, which both sides keep."""
