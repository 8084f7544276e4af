"""The command line ``tarfailover``: looks at stores, checks and compares them, writes samples."""

from tarfailover.cli.app import main

__all__ = ["main"]
