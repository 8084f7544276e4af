"""The errors of tarfailover, one tree, one exit code for each leaf.

::

    TarFailoverError
    ├── ConfigError               2   an option, a configuration line or a variable is wrong
    ├── FormatError              10   bytes are not what the TarMK format says
    ├── ContentError             18   content is beyond what a repository can hold
    ├── NotFoundError            19   no node, property, head or checkpoint of this name
    ├── ConflictError            31   a commit and another one changed the same, differently
    ├── StoreError
    │   ├── NotAStoreError       11   there is no segment store in the directory
    │   ├── UnsupportedStoreError 12  a legacy or a newer store
    │   ├── DamagedStoreError    13   a file of the store cannot be used
    │   ├── NoHeadError          14   no line of the journal names a head that can be served
    │   ├── StoreLockedError     15   another process writes this store
    │   ├── SegmentMissingError  16   a segment that is needed is not there
    │   ├── StoreIOError         17   the operating system refused a read, a write or a sync
    │   └── BlobMissingError     30   an external binary that is needed is not in its blob store
    └── LinkError
        ├── ProtocolError        20   the peer broke the protocol
        ├── PeerError            21   the peer answered with an error
        ├── DeadlineError        22   a named deadline passed
        ├── ConnectionLostError  23   no connection, or it ended in the middle
        ├── DivergedError        24   the slave's store is no copy of this master's
        └── TlsError             25   a certificate, a name, or a peer without TLS

Every message names the file or the peer, the offset where there is one, and the
remedy. Exit code 1 is kept for commands that worked and found a difference or a
fault (``check``, ``compare``); 0 is success.
"""

from __future__ import annotations


class TarFailoverError(Exception):
    """The root of all errors that tarfailover raises on purpose."""

    exit_code = 70


class ConfigError(TarFailoverError):
    """An option, a line of a configuration file or an environment variable is wrong."""

    exit_code = 2


class FormatError(TarFailoverError):
    """Bytes are not what the TarMK format says.

    `offset` counts in bytes from the start of the buffer or, once `within` has
    been called, of the file that was read.
    """

    exit_code = 10

    def __init__(self, what: str, offset: int, source: str = "") -> None:
        super().__init__(what, offset, source)
        self.what = what
        self.offset = offset
        self.source = source

    def __str__(self) -> str:
        where = f"{self.source}, offset {self.offset}" if self.source else f"offset {self.offset}"
        return f"{where}: {self.what}"

    def within(self, source: str, base: int = 0) -> FormatError:
        """The same fault, told as one of file `source` with the buffer's start at `base`."""
        return type(self)(self.what, self.offset + base, source)


class ContentError(TarFailoverError):
    """Content that a caller wants stored, or read, is beyond what a repository can hold."""

    exit_code = 18


class NotFoundError(TarFailoverError):
    """There is no node, property, head or checkpoint of this name."""

    exit_code = 19


class ConflictError(TarFailoverError):
    """A commit changed what another one, which came first, had changed in another way.

    Nothing of it was committed. `path` is that of the node, `ours` and `theirs` tell in words
    what became of it in this commit and in the other one.
    """

    exit_code = 31

    def __init__(self, path: str, ours: str, theirs: str) -> None:
        super().__init__(path, ours, theirs)
        self.path = path
        self.ours = ours
        self.theirs = theirs

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.ours} in this commit, and {self.theirs} in one that came first; "
            "nothing was committed: do it again on top of the new head"
        )


class StoreError(TarFailoverError):
    """Something about a segment store on disk."""


class NotAStoreError(StoreError):
    """There is no segment store in the directory."""

    exit_code = 11


class UnsupportedStoreError(StoreError):
    """The store is of a legacy or of a newer format."""

    exit_code = 12


class DamagedStoreError(StoreError):
    """A file of the store cannot be used as it is."""

    exit_code = 13


class NoHeadError(StoreError):
    """No line of the journal names a head that can be served."""

    exit_code = 14


class StoreLockedError(StoreError):
    """Another process holds the lock of this store."""

    exit_code = 15


class SegmentMissingError(StoreError):
    """A segment that is needed is in no tar of the store."""

    exit_code = 16


class StoreIOError(StoreError):
    """The operating system refused a read, a write, a sync or a rename."""

    exit_code = 17


class BlobMissingError(StoreError):
    """An external binary that is needed is not in its blob store."""

    exit_code = 30


class LinkError(TarFailoverError):
    """Something about the link to a peer."""


class ProtocolError(LinkError):
    """The peer sent what the protocol does not allow."""

    exit_code = 20


class PeerError(LinkError):
    """The peer answered a request with an error: `code` is its number, `text` its words."""

    exit_code = 21

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return f"{self.text} (error {self.code})"


class DeadlineError(LinkError):
    """The deadline `name` of `seconds` seconds passed while waiting for `what`."""

    exit_code = 22

    def __init__(self, name: str, seconds: float, what: str) -> None:
        super().__init__(name, seconds, what)
        self.name = name
        self.seconds = seconds
        self.what = what

    def __str__(self) -> str:
        return f"deadline {self.name} of {self.seconds:g} s passed while waiting for {self.what}"


class ConnectionLostError(LinkError):
    """There is no connection to the peer, or it ended in the middle of an answer."""

    exit_code = 23


class DivergedError(LinkError):
    """The slave's store holds what the master never had; it is not overwritten."""

    exit_code = 24


class TlsError(LinkError):
    """TLS failed: a certificate was refused, or the peer does not speak TLS."""

    exit_code = 25
