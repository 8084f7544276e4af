"""Calls that block, beside a reactor that goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from daemons import LINE_SECONDS
from services import within
from twisted.internet.threads import deferToThread

T = TypeVar("T")


async def beside(function: Callable[[], T]) -> T:
    """What `function` returns, called in a thread; it has deadlines of its own."""
    result: T = await within(2 * LINE_SECONDS, "what a process was to do", deferToThread(function))
    return result
