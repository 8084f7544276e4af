"""Bytes ↔ values of the TarMK format: no files, no sockets, no Twisted."""
