"""What several settings say, and what they are bounded by."""

from __future__ import annotations

from tarfailover.bandwidth import LEAST_RATE
from tarfailover.settings import GIB

COMPRESSION = (
    "auto: where the link is slower than the compressor, zstd: wherever bytes get fewer, none"
)
SUBJECT = (
    "regular expression that all of the subject in the certificate of {} must match, as in "
    "Oak's sslSubjectPattern"
)
RATE = f"0 means no limit, {LEAST_RATE // 1024}KiB is the least"
RATES = (LEAST_RATE, 100 * GIB)
BLOB_STORES = ("file", "blocks")
BLOB_KIND = "what blob_store is: file for a FileDataStore, blocks for a FileBlobStore"
