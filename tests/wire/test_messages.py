"""Messages: their bytes, their limits, and what is no message."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from format_samples import damaged
from hypothesis import example, given
from hypothesis import strategies as st
from wire_samples import (
    BULK,
    DATA,
    HEAD,
    MESSAGES,
    Receiver,
    answers,
    frames,
    requests,
    sent,
    value_or_refusal,
    vectors,
)

from tarfailover.errors import ProtocolError
from tarfailover.ids import NO_GENERATION, Generation, RecordId
from tarfailover.wire.messages import (
    ANSWERS,
    FRAME_HEADER,
    MAX_AHEAD,
    MAX_ANSWER_FRAME,
    MAX_BLOB_ID,
    MAX_IDS,
    MAX_LISTED,
    MAX_PACKED,
    MAX_PART,
    MAX_REQUEST_FRAME,
    MAX_SLICE,
    MAX_WAIT_MS,
    REQUESTS,
    Answer,
    Blob,
    BlobEnd,
    Digest,
    End,
    Error,
    Follow,
    Get,
    Head,
    HeadIs,
    Hello,
    List,
    Listed,
    ListEnd,
    Packed,
    Part,
    Ping,
    Pong,
    Request,
    UnknownTypeError,
    Welcome,
    decode_answer,
    decode_request,
    encode,
    split,
)

WIRE = dict(vectors("messages"))
REFUSED = vectors("refused")
OPEN_ENDED = {Get: (16, 16), Digest: (16, 32), Listed: (20, 0), Part: (1, 1), Packed: (1, 2)}
"""Messages that end with any number of items: the size of one in bytes, the least of all."""

EVERY = pytest.mark.parametrize("name", WIRE)


def decode(frame: bytes) -> tuple[int, Request | Answer]:
    """As the side that the frame is meant for."""
    return decode_answer(frame) if frame[:1] >= b"\x80" else decode_request(frame)


def decoded(frame: bytes) -> tuple[int, Request | Answer] | None:
    """What `decode` gives, or None if it raises ProtocolError; any other exception passes."""
    return value_or_refusal(lambda: decode(frame))


class TestVectors:
    def test_there_is_one_for_every_type(self) -> None:
        assert list(WIRE) == list(MESSAGES)
        shown = {type(message) for _, message in MESSAGES.values()}
        assert shown == {*REQUESTS.values(), *ANSWERS.values()}

    @EVERY
    def test_is_written(self, name: str) -> None:
        request, message = MESSAGES[name]
        assert sent(encode(request, message)).hex(" ") == WIRE[name].hex(" ")

    @EVERY
    def test_is_read(self, name: str) -> None:
        (frame,) = frames(WIRE[name])
        assert decode(frame) == MESSAGES[name]
        assert split(frame) == (MESSAGES[name][1].TYPE, MESSAGES[name][0])

    @pytest.mark.parametrize("side", [REQUESTS, ANSWERS], ids=["to the master", "to the slave"])
    def test_all_of_one_direction_are_read_byte_by_byte(self, side: dict[int, type]) -> None:
        meant = {n: said for n, said in MESSAGES.items() if said[1].TYPE in side}
        receiver = Receiver(MAX_REQUEST_FRAME)
        for byte in b"".join(WIRE[name] for name in meant):
            receiver.dataReceived(bytes([byte]))
        assert [decode(frame) for frame in receiver.frames] == list(meant.values())

    @EVERY
    def test_cut_at_any_byte_is_refused(self, name: str) -> None:
        frame, (request, message) = WIRE[name][4:], MESSAGES[name]
        item, least = OPEN_ENDED.get(type(message), (0, 0))
        fixed = len(encode(request, Listed(0, 0, b""))) if item == 20 else FRAME_HEADER
        bare = dataclasses.replace(message, token="") if isinstance(message, Hello) else None
        for end in range(len(frame)):
            if bare is not None and end == len(encode(request, bare)):
                assert decode(frame[:end]) == (request, bare)
            elif item and end >= fixed + least and (end - fixed) % item == 0:
                shorter = decode(frame[:end])
                assert encode(*shorter) == frame[:end]
            else:
                with pytest.raises(ProtocolError, match=r"ends in the middle|no room|allowed"):
                    decode(frame[:end])

    @EVERY
    def test_with_a_byte_behind_its_end_is_refused(self, name: str) -> None:
        request, message = MESSAGES[name]
        longer = WIRE[name][4:] + b"\0"
        if isinstance(message, Hello) and message.token:
            assert decode(longer) == (request, message)
        elif isinstance(message, Part):
            assert decode(longer) == (request, Part(message.data + b"\0"))
        elif isinstance(message, Packed):
            assert decode(longer) == (request, Packed(message.begins, message.data + b"\0"))
        else:
            with pytest.raises(ProtocolError, match=r"1 bytes follow|are allowed|in the middle"):
                decode(longer)

    def test_of_a_newer_version_has_more_behind_hello(self) -> None:
        hello = encode(1, Hello("new", (), 1, 9))
        more = b"\x07\xff\0more"
        assert decode_request(hello + b"\0\0" + more) == (1, Hello("new", (), 1, 9))
        shown = Hello("new", ("f",), 1, 9, "a token")
        assert decode_request(encode(1, shown) + more) == (1, shown)

    def test_a_token_is_in_no_repr(self) -> None:
        hello = Hello("s", token="t" * 32)
        assert "tttt" not in repr(hello) and "token" not in repr(hello)

    @pytest.mark.parametrize(("told", "data"), REFUSED, ids=[told for told, _ in REFUSED])
    def test_of_what_is_refused(self, told: str, data: bytes) -> None:
        side, _, text = told.partition(": ")
        (frame,) = frames(data)
        with pytest.raises(ProtocolError) as caught:
            {"to the master": decode_request, "to the slave": decode_answer}[side](frame)
        assert str(caught.value) == text


class TestTypes:
    @pytest.mark.parametrize(
        ("decode_it", "known"),
        [(decode_request, REQUESTS), (decode_answer, ANSWERS)],
        ids=["to the master", "to the slave"],
    )
    def test_all_others_are_unknown_and_say_which_request(
        self, decode_it: Any, known: dict[int, type]
    ) -> None:
        for kind in set(range(256)) - set(known):
            with pytest.raises(UnknownTypeError, match=f"{kind:#04x} is not known") as caught:
                decode_it(bytes([kind]) + (77).to_bytes(4, "big") + b"payload")
            assert caught.value.request == 77

    def test_none_goes_both_ways(self) -> None:
        assert not REQUESTS.keys() & ANSWERS.keys()


class TestProperties:
    @given(st.integers(0, 2**32 - 1), requests | answers)
    @example(0, Get((DATA,) * MAX_IDS))
    @example(2**32 - 1, Listed(0, 0, bytes(20 * MAX_LISTED)))
    @example(0, Part(bytes(MAX_PART)))
    @example(0, Hello("ä" * 512, ("ä" * 32,) * 32, 0, 0xFFFF))
    @example(0, Error(0, "𝄞" * 256))
    def test_every_message_survives_both_ways(
        self, request: int, message: Request | Answer
    ) -> None:
        (frame,) = frames(sent(encode(request, message)))
        assert decode(frame) == (request, message)

    @given(
        st.binary(max_size=80)
        | st.builds(
            lambda kind, rest: bytes([kind]) + rest,
            st.sampled_from([*REQUESTS, *ANSWERS]),
            st.binary(min_size=4, max_size=80),
        )
        | st.sampled_from(sorted(WIRE.values())).flatmap(lambda data: damaged(data[4:]))
    )
    def test_any_bytes_are_the_one_form_of_a_message_or_are_refused(self, frame: bytes) -> None:
        sides: list[Callable[[bytes], tuple[int, Request | Answer]]]
        sides = [decode_request, decode_answer]
        for side in sides:
            found = value_or_refusal(partial(side, frame))
            if found is not None:
                again = encode(*found)
                assert again == (frame[: len(again)] if type(found[1]) is Hello else frame)

    @given(requests | answers, st.data())
    def test_a_part_of_a_message_is_never_misread(
        self, message: Request | Answer, data: st.DataObject
    ) -> None:
        frame = encode(1, message)
        shorter = decoded(frame[: data.draw(st.integers(0, len(frame) - 1))])
        assert shorter is None or type(shorter[1]) in OPEN_ENDED

    @pytest.mark.parametrize("kind", [Head, Follow, HeadIs, Welcome, BlobEnd])
    def test_no_bit_of_what_is_remembered_can_be_wrong(self, kind: type) -> None:
        frame = next(encode(*each) for each in MESSAGES.values() if isinstance(each[1], kind))
        for bit in range(8 * len(frame)):
            wrong = bytearray(frame)
            wrong[bit // 8] ^= 1 << bit % 8
            found = decoded(bytes(wrong))
            assert found is None or not isinstance(found[1], kind), bit

    @given(st.lists(st.binary(min_size=20, max_size=20), max_size=9))
    def test_listed_items_are_pairs(self, items: list[bytes]) -> None:
        pairs = Listed(len(items), 0, b"".join(items)).pairs()
        assert [name + length.to_bytes(4, "big") for name, length in pairs] == items


class TestLimits:
    @pytest.mark.parametrize(
        "message",
        [
            Hello("x" * 1024, ("x" * 64,) * 32, 0, 0xFFFF),
            Head(HEAD, MAX_WAIT_MS),
            Follow(HEAD, MAX_WAIT_MS, bytes(64), MAX_AHEAD),
            List(DATA, bytes(64)),
            Get((DATA,) * MAX_IDS),
            Digest((DATA,) * MAX_IDS),
            Ping(),
            Welcome(0xFFFF, ("x" * 64,) * 32, "x" * 1024, 2**64 - 1, "x" * 1024),
            HeadIs(HEAD, 0, NO_GENERATION, known=True),
            Listed(2**32 - 1, 2**64 - 1, bytes(20 * MAX_LISTED)),
            ListEnd(bytes(64)),
            Part(bytes(MAX_PART)),
            Packed(True, bytes(MAX_PACKED)),
            End(2**32 - 1, 2**64 - 1),
            Pong(),
            Error(0xFFFF, "x" * 1024),
            Blob("x" * MAX_BLOB_ID, 2**64 - 1, MAX_SLICE),
            BlobEnd(2**64 - 1, MAX_SLICE, 2**32 - 1),
        ],
        ids=lambda message: type(message).__name__,
    )
    def test_the_longest_of_every_type_is_a_frame_that_the_other_side_takes(
        self, message: Request | Answer
    ) -> None:
        asked = message.TYPE in REQUESTS
        data = sent(encode(0, message))
        (frame,) = frames(data, MAX_REQUEST_FRAME if asked else MAX_ANSWER_FRAME)
        assert decode(frame) == (0, message)
        assert data[0] == 0

    def test_of_frames_keep_the_first_byte_zero(self) -> None:
        assert max(MAX_REQUEST_FRAME, MAX_ANSWER_FRAME) < 1 << 24

    @pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\0", b"SSH-2.0-"])
    def test_the_first_bytes_of_other_protocols_are_too_long_a_frame(self, start: bytes) -> None:
        receiver = Receiver(MAX_REQUEST_FRAME)
        receiver.dataReceived(start)
        assert receiver.refused == [int.from_bytes(start[:4], "big")]
        assert receiver.frames == []

    def test_a_text_for_people_is_cut_between_characters(self) -> None:
        long, cut = "x" + "ä" * 512, "x" + "ä" * 511
        assert decode(encode(1, Error(1, long))) == (1, Error(1, cut))
        assert decode(encode(1, Hello(long))) == (1, Hello(cut))
        assert decode(encode(1, Welcome(1, (), "", 0, long))) == (1, Welcome(1, (), "", 0, cut))

    def test_a_text_that_utf_8_cannot_say_is_sent_all_the_same(self) -> None:
        assert decode(encode(1, Error(1, "file \udcff"))) == (1, Error(1, "file ?"))

    @pytest.mark.parametrize(
        ("message", "told"),
        [
            (Hello("", (), -1, 1), "the lowest version of HELLO is -1; 0 to 65535 are"),
            (Hello("", (), 1, 65536), "the highest version of HELLO is 65536; 0 to 65535 are"),
            (Hello("", (), 2, 1), "HELLO offers versions 2 to 1"),
            (Hello("", ("f",) * 33), "33 features in HELLO; 32 are"),
            (Hello("", ("f",) * 256), "256 features in HELLO; 32 are"),
            (Hello("", ("f", "x" * 65)), "a text of 65 bytes in HELLO; 64 are"),
            (Hello("", ("ä" * 33,)), "a text of 66 bytes in HELLO; 64 are"),
            (Hello("", (), 1, 1, "t" * 257), "a text of 257 bytes in HELLO; 256 are"),
            (Head(None, -1), "the wait of HEAD is -1; 0 to 600000 are"),
            (Head(None, MAX_WAIT_MS + 1), "the wait of HEAD is 600001; 0 to 600000 are"),
            (Head(None, 2**32), "the wait of HEAD is 4294967296; 0 to 600000 are"),
            (Head(RecordId(DATA, -1), 0), "the record number of HEAD is -1; 0 to 4294967295 are"),
            (Head(RecordId(DATA, 2**32), 0), "the record number of HEAD is 4294967296; 0 to"),
            (Head(RecordId(DATA[:15], 0), 0), "a segment id in HEAD has 15 bytes; 16 are"),
            (Follow(HEAD, MAX_WAIT_MS + 1, b""), "the wait of FOLLOW is 600001; 0 to 600000 are"),
            (Follow(HEAD, 0, bytes(65)), "a cursor of 65 bytes in FOLLOW; 64 are"),
            (Follow(HEAD, 0, b"", MAX_AHEAD + 1), "the bytes of FOLLOW is 1048577; 0 to 1048576"),
            (List(DATA + b"x"), "a segment id in LIST has 17 bytes; 16 are"),
            (List(DATA, bytes(65)), "a cursor of 65 bytes in LIST; 64 are"),
            (List(DATA, bytes(256)), "a cursor of 256 bytes in LIST; 64 are"),
            (Get(()), "the ids of GET are 0 bytes; 1 to 4000 of 16 bytes are"),
            (Get((DATA,) * (MAX_IDS + 1)), "the ids of GET are 64016 bytes; 1 to 4000 of 16"),
            (Get((DATA[:15], BULK + b"x")), "a segment id in GET has 15 bytes; 16 are"),
            (Digest(()), "the ids of DIGEST are 0 bytes; 1 to 4000 of 16 bytes are"),
            (Digest((DATA,), b"short"), "the length of the salt is 5; 16 to 16 are allowed"),
            (Welcome(65536, (), "", 0, ""), "the version of WELCOME is 65536; 0 to 65535 are"),
            (Welcome(1, (), "", 2**64, ""), f"the epoch of WELCOME is {2**64}; 0 to"),
            (Welcome(1, (), "", -1, ""), "the epoch of WELCOME is -1; 0 to"),
            (Welcome(1, ("x" * 65,), "", 0, ""), "a text of 65 bytes in WELCOME; 64 are"),
            (Welcome(1, (), "x" * 1025, 0, ""), "a text of 1025 bytes in WELCOME; 1024 are"),
            (HeadIs(RecordId(b"", 0), 0, NO_GENERATION, True), "a segment id in HEAD_IS has 0"),
            (HeadIs(HEAD, -1, NO_GENERATION, True), "the time of HEAD_IS is -1; 0 to"),
            (HeadIs(HEAD, 2**64, NO_GENERATION, True), f"the time of HEAD_IS is {2**64}; 0 to"),
            (HeadIs(HEAD, 0, Generation(-1, 0, False), True), "the generation of HEAD_IS is -1"),
            (
                HeadIs(HEAD, 0, Generation(0, 2**32, False), True),
                "the full generation of HEAD_IS is 4294967296; 0 to 4294967295 are",
            ),
            (Listed(-1, 0, b""), "the number of segments of LISTED is -1; 0 to 4294967295 are"),
            (Listed(0, 2**64, b""), f"the size of LISTED is {2**64}; 0 to"),
            (Listed(0, 0, bytes(19)), "the items of LISTED are 19 bytes; 0 to 3000 of 20 bytes"),
            (Listed(0, 0, bytes(60020)), "the items of LISTED are 60020 bytes; 0 to 3000 of 20"),
            (ListEnd(bytes(65)), "a cursor of 65 bytes in LIST_END; 64 are"),
            (Part(b""), "the size of PART is 0; 1 to 65536 are"),
            (Part(bytes(MAX_PART + 1)), "the size of PART is 65537; 1 to 65536 are"),
            (Packed(True, b""), "the size of PACKED is 0; 1 to 66560 are"),
            (Packed(True, bytes(MAX_PACKED + 1)), "the size of PACKED is 66561; 1 to 66560 are"),
            (End(2**32, 0), "the number of segments of END is 4294967296; 0 to 4294967295 are"),
            (End(0, -1), "the size of END is -1; 0 to"),
            (Blob("x" * 1025, 0, 1), "a text of 1025 bytes in BLOB; 1024 are"),
            (Blob("x", -1, 1), "the offset of BLOB is -1; 0 to"),
            (Blob("x", 2**64, 1), f"the offset of BLOB is {2**64}; 0 to"),
            (Blob("x", 0, 0), "the size in BLOB is 0; 1 to 1048576 are"),
            (Blob("x", 0, MAX_SLICE + 1), "the size in BLOB is 1048577; 1 to 1048576 are"),
            (Blob("ä", 0, 1), "a blob id in BLOB is not printable ASCII"),
            (Blob("a\n", 0, 1), "a blob id in BLOB is not printable ASCII"),
            (BlobEnd(2**64, 0, 0), f"the length of BLOB_END is {2**64}; 0 to"),
            (BlobEnd(0, MAX_SLICE + 1, 0), "the size in BLOB_END is 1048577; 0 to 1048576 are"),
            (BlobEnd(0, 0, -1), "the CRC32 of BLOB_END is -1; 0 to 4294967295 are"),
            (Error(-1, ""), "the code of ERROR is -1; 0 to 65535 are"),
            (Error(65536, ""), "the code of ERROR is 65536; 0 to 65535 are"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_what_does_not_fit_is_not_sent(self, message: Request | Answer, told: str) -> None:
        with pytest.raises(ProtocolError, match=told):
            encode(1, message)

    @pytest.mark.parametrize("request_number", [-1, 2**32])
    def test_nor_is_a_request_number(self, request_number: int) -> None:
        told = f"the request number of PING is {request_number}; 0 to 4294967295 are allowed"
        with pytest.raises(ProtocolError, match=told):
            encode(request_number, Ping())
