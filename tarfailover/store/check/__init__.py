"""The check of a store: `StoreCheck` walks it, the other modules know one kind of thing each."""

from tarfailover.store.check.store import StoreCheck

__all__ = ["StoreCheck"]
