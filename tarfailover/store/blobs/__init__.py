"""External binaries: blob stores as directories, Jackrabbit's FileDataStore and FileBlobStore."""

from tarfailover.store.blobs.adding import Adder, add
from tarfailover.store.blobs.incoming import Incoming
from tarfailover.store.blobs.layout import BLOCKS, DATA_STORE, Layout
from tarfailover.store.blobs.opening import KINDS, open_blob_store, recognise
from tarfailover.store.blobs.store import BlobStore, Stored

__all__ = [
    "BLOCKS",
    "DATA_STORE",
    "KINDS",
    "Adder",
    "BlobStore",
    "Incoming",
    "Layout",
    "Stored",
    "add",
    "open_blob_store",
    "recognise",
]
