"""The exception tree: as its docstring draws it, each leaf with its own exit code."""

from __future__ import annotations

import copy
import pickle
import re

import pytest

from tarfailover import errors
from tarfailover.errors import (
    DeadlineError,
    FormatError,
    PeerError,
    ProtocolError,
    TarFailoverError,
)

DRAWN = re.compile(r"    ([│ ├└─]*)(\w+Error)(?: +(\d+) .*)?")


def all_errors() -> list[type[TarFailoverError]]:
    found = (e for e in vars(errors).values() if isinstance(e, type))
    return [error for error in found if issubclass(error, TarFailoverError)]


def drawn() -> dict[str, tuple[str | None, int | None]]:
    """From the name of a class to that of its parent and its exit code, as drawn."""
    tree: dict[str, tuple[str | None, int | None]] = {}
    above: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = DRAWN.fullmatch(line)
        if match:
            depth = len(match[1]) // 4
            above[depth] = match[2]
            tree[match[2]] = (above.get(depth - 1), int(match[3]) if match[3] else None)
    return tree


def test_the_docstring_draws_the_tree_that_there_is() -> None:
    tree = drawn()
    assert set(tree) == {error.__name__ for error in all_errors()}
    for error in all_errors():
        parent, code = tree[error.__name__]
        assert parent == (None if error is TarFailoverError else error.__bases__[0].__name__)
        if code is not None:
            assert error.exit_code == code


def test_every_leaf_has_an_exit_code_of_its_own_and_none_is_0_or_1() -> None:
    codes = [error.exit_code for error in all_errors() if not error.__subclasses__()]
    assert len(set(codes)) == len(codes)
    assert not {0, 1, TarFailoverError.exit_code} & set(codes)
    assert all(code < 126 for code in codes)  # above, shells mean signals


def test_format_error_tells_offset_and_source() -> None:
    bare = FormatError("what is wrong", 7)
    assert str(bare) == "offset 7: what is wrong"
    told = bare.within("data00000a.tar", 512)
    assert str(told) == "data00000a.tar, offset 519: what is wrong"
    assert (told.what, told.offset, told.source) == ("what is wrong", 519, "data00000a.tar")
    assert (bare.offset, bare.source) == (7, "")
    assert str(bare.within("manifest")) == "manifest, offset 7: what is wrong"


def test_within_keeps_the_class() -> None:
    class NarrowerError(FormatError):
        pass

    assert type(NarrowerError("x", 1).within("f")) is NarrowerError


def test_peer_and_deadline_errors_tell_their_numbers() -> None:
    assert str(PeerError(3, "no such segment")) == "no such segment (error 3)"
    late = DeadlineError("first-answer", 2.5, "the head")
    assert str(late) == "deadline first-answer of 2.5 s passed while waiting for the head"
    assert str(DeadlineError("idle", 30, "x")).startswith("deadline idle of 30 s ")


@pytest.mark.parametrize(
    "error",
    [
        FormatError("w", 1, "s"),
        PeerError(3, "text"),
        DeadlineError("n", 1.0, "w"),
        ProtocolError("plain"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_copying_between_threads_and_processes(error: TarFailoverError) -> None:
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert (str(twin), twin.args, vars(twin)) == (str(error), error.args, vars(error))
