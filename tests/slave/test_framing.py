# ruff: noqa: N802, N815 -- names of Twisted
"""Frames come out as from Twisted's own receiver, however the bytes are cut and paused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport
from twisted.protocols.basic import Int32StringReceiver

from tarfailover.slave.framing import FrameReceiver

FRAMES = st.lists(st.binary(max_size=40), max_size=12)


class Theirs(Int32StringReceiver):
    MAX_LENGTH = 64

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.refused: list[int] = []
        self.pause_after: set[int] = set()

    def stringReceived(self, string: bytes) -> None:
        self.got.append(string)
        if len(self.got) in self.pause_after:
            self.pauseProducing()

    def lengthLimitExceeded(self, length: int) -> None:
        self.refused.append(length)


class Ours(FrameReceiver):
    MAX_LENGTH = 64
    stringReceived = Theirs.stringReceived
    lengthLimitExceeded = Theirs.lengthLimitExceeded

    def __init__(self) -> None:
        super().__init__()
        Theirs.__init__(self)


def framed(frames: list[bytes]) -> bytes:
    return b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)


def feed(receiver: Any, data: bytes, cuts: list[int], pauses: set[int]) -> Any:
    receiver.pause_after = pauses
    receiver.makeConnection(StringTransport())
    borders = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for begin, end in itertools.pairwise(borders):
        receiver.dataReceived(data[begin:end])
        if receiver.paused and begin % 2:
            receiver.resumeProducing()
    while receiver.paused:
        receiver.resumeProducing()
    return receiver


@given(FRAMES, st.lists(st.integers(0, 10_000)), st.sets(st.integers(1, 12)))
def test_frames_cut_anywhere_and_paused_anywhere(
    frames: list[bytes], cuts: list[int], pauses: set[int]
) -> None:
    ours = feed(Ours(), framed(frames), cuts, pauses)
    assert ours.got == frames
    assert ours.got == feed(Theirs(), framed(frames), cuts, pauses).got


@given(FRAMES, st.lists(st.integers(0, 10_000)))
def test_a_frame_that_is_too_long_is_told_once_as_soon_as_its_prefix_is_there(
    frames: list[bytes], cuts: list[int]
) -> None:
    ours = feed(Ours(), framed(frames) + (65).to_bytes(4, "big"), cuts, set())
    assert ours.got == frames
    assert ours.refused == [65]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 1000])
def test_pieces_of_one_size(size: int) -> None:
    frames = [bytes([n]) * n for n in range(60)]
    data = framed(frames)
    ours = Ours()
    ours.makeConnection(StringTransport())
    for at in range(0, len(data), size):
        ours.dataReceived(data[at : at + size])
    assert ours.got == frames
