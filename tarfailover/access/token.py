"""The token that a master and its slaves share: the simple alternative to client certificates.

Whoever has it is let in, so it is sent over TLS alone (see `tls.rules`), compared in
constant time, and is part of no message and no `repr`.
"""

from __future__ import annotations

import hmac
from pathlib import Path

from twisted.logger import Logger

from tarfailover import smallfiles
from tarfailover.errors import ConfigError
from tarfailover.wire.messages import MAX_TOKEN

MIN_TOKEN = 32
"""Characters of a token at the least: 128 bits, if they are random hexadecimal digits."""


class Token:
    """The token in the first line of a file; one that changes counts from the next use on."""

    log = Logger()

    def __init__(self, name: str) -> None:
        """Read file `name`; raises ConfigError."""
        self._path = Path(name)
        self._seen = smallfiles.signature(self._path)
        self._secret = self._read()

    def _read(self) -> bytes:
        line = smallfiles.first_line(self._path, "token")
        if not MIN_TOKEN <= len(line) <= MAX_TOKEN:
            raise ConfigError(
                f"{self._path} holds a token of {len(line)} characters; {MIN_TOKEN} to "
                f"{MAX_TOKEN} are allowed; make one with: openssl rand -hex 32"
            )
        if not line.isascii() or not line.decode("ascii").isprintable() or b" " in line:
            raise ConfigError(
                f"{self._path} holds a token with blanks or other than ASCII characters; make "
                "one with: openssl rand -hex 32"
            )
        if smallfiles.readable_by_others(self._path):
            self.log.warn("{path} can be read by others; chmod 600 it", path=str(self._path))
        return line

    @property
    def value(self) -> str:
        """The token as it is now; if its file is broken, as it was before."""
        seen = smallfiles.signature(self._path)
        if seen != self._seen:
            self._seen = seen
            self._reread()
        return self._secret.decode("ascii")

    def _reread(self) -> None:
        try:
            self._secret = self._read()
        except (ConfigError, OSError) as error:
            self.log.error("{error}; the token read before stays in use", error=str(error))
        else:
            self.log.info("{path} was replaced: its token counts from now on", path=str(self._path))

    def refuses(self, offered: str) -> str:
        """Why a slave that offers this is not allowed, or ''."""
        if not offered:
            return "this master demands a token, and the slave has none; give it token_file"
        if hmac.compare_digest(self.value.encode("ascii"), offered.encode("utf-8")):
            return ""
        return "the token of the slave is not that of the master; compare both token_file"
