"""Rot is found and mended: afterwards every file is what it was, to the last bit."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from copies import closure_of, sound
from rot import Flip, Whole, files_of, random_flips, repair, small_store
from stores import QuickDisk

from tarfailover.format.tar import BLOCK
from tarfailover.repository.sample import write_sample
from tarfailover.store.repair.supply import Outcome
from tarfailover.store.writer import StoreWriter

pytestmark = pytest.mark.load

TARS = [f"data{number:05d}a.tar" for number in range(3)]
BITS = 1000
SEED = int(os.environ.get("ROT_SEED") or random.randrange(2**32))
"""Of the bits that are flipped; printed when the test fails."""


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 17 MiB in seven tars, the last one small."""
    directory = tmp_path_factory.mktemp("several") / "store"
    options = {"create": True, "tar_limit": 3 * 1024 * 1024, "disk": QuickDisk()}
    with StoreWriter.open(directory, **options) as writer:  # type: ignore[arg-type]
        write_sample(writer, nodes=1000, binary_kib=256, commits=5, seed=1)
    return directory


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return small_store(tmp_path / "small")


def rotten(store: Path, copy: Path, flips: list[Flip]) -> Path:
    shutil.copytree(store, copy)
    for flip in flips:
        flip.strike(copy)
    return copy


@pytest.mark.parametrize("seed", [SEED], ids=[f"ROT_SEED={SEED}"])
def test_a_thousand_random_bits(several: Path, tmp_path: Path, seed: int) -> None:
    flips = random_flips(several, BITS, seed)
    copy = rotten(several, tmp_path / "copy", flips)
    source = Whole(several)
    found = repair(copy, source)
    assert [each for each in found if not each.mended] == []
    assert files_of(copy) == files_of(several), "a byte is not what it was"
    assert len(source.asked) == len(set(source.asked)), "fetched twice"
    sound(copy)
    assert repair(copy, source) == []


def test_any_single_bit(small: Path, tmp_path: Path) -> None:
    """Of headers, data, padding, trailing entries, the end: found at its place, and mended."""
    right, source = files_of(small), Whole(small)
    copy = shutil.copytree(small, tmp_path / "copy")
    total = 0
    for name in TARS:
        for offset in range(total % 211, len(right[name]), 211):
            flip = Flip(name, offset, offset % 8)
            flip.strike(copy)
            found = repair(copy, source)
            assert len(found) == 1, (flip, found)
            (outcome,) = found
            assert outcome.mended, outcome
            assert near(outcome, flip), (outcome, flip)
            assert files_of(copy) == right, flip
        total += len(right[name])


ROUNDS = 12


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 3 MiB in four tars."""
    directory = tmp_path_factory.mktemp("four") / "store"
    options = {"create": True, "tar_limit": 1024 * 1024, "disk": QuickDisk()}
    with StoreWriter.open(directory, **options) as writer:  # type: ignore[arg-type]
        write_sample(writer, nodes=300, binary_kib=32, commits=4, seed=1)
    return directory


def wreck(copy: Path, chance: random.Random) -> None:
    """Sectors of zeros, ones or noise; sometimes a tar that is gone, or has lost its end."""
    for _ in range(chance.randrange(1, 12)):
        path = chance.choice(sorted(copy.glob("*.tar")))
        size, length = path.stat().st_size, chance.choice([512, 4096, 65536])
        at = 512 * chance.randrange(size // 512)
        noise = chance.choice([bytes(length), b"\xff" * length, chance.randbytes(length)])
        with path.open("r+b") as file:
            file.seek(at)
            file.write(noise[: size - at])
    if chance.random() < 0.25:
        chance.choice(sorted(copy.glob("*.tar"))).unlink()
    if chance.random() < 0.25:
        path = chance.choice(sorted(copy.glob("*.tar")))
        os.truncate(path, chance.randrange(1, path.stat().st_size))


@pytest.mark.parametrize("seed", [SEED], ids=[f"ROT_SEED={SEED}"])
def test_sectors_tars_and_ends(four: Path, tmp_path: Path, seed: int) -> None:
    """Not always to the last bit, but whole, in order, and done at the first time."""
    chance, source, wanted = random.Random(seed), Whole(four), closure_of(four)
    for number in range(ROUNDS):
        copy = shutil.copytree(four, tmp_path / f"copy{number}")
        wreck(copy, chance)
        repair(copy, source)
        assert closure_of(copy) == wanted, number
        sound(copy)
        assert repair(copy, source) == [], number
        shutil.rmtree(copy)


def near(outcome: Outcome, flip: Flip) -> bool:
    """Whether it is told of the right file, and not behind the bit, or in its header."""
    assert outcome.offset is not None
    return outcome.file == flip.file and outcome.offset <= flip.offset + BLOCK


@pytest.mark.parametrize("place", [0, 1, -1])
def test_a_tar_of_which_nothing_can_be_read(four: Path, tmp_path: Path, place: int) -> None:
    """Neither its index nor its first entry, and what lies behind that is of no use."""
    copy = shutil.copytree(four, tmp_path / "copy")
    path = sorted(copy.glob("*.tar"))[place]
    left = b"\xff" * 4608 + path.read_bytes()[4608:44_539]
    path.write_bytes(left)
    assert all(outcome.mended for outcome in repair(copy, Whole(four)))
    assert closure_of(copy) == closure_of(four)
    sound(copy)
    assert [each.read_bytes() for each in copy.glob("*.bak")] == [left]
