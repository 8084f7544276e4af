"""The fault matrix: every fault, in every phase, in either direction, over every kind of link."""

from __future__ import annotations

import contextlib
from pathlib import Path
from random import Random

import pytest
from cells import CONNECT, LINKS, Cell, Clean, cells, clean_run, run
from failing import Strike
from matrix import Report
from worlds import (
    PLAIN_LINK,
    TLS_LINK,
    TLS_ZSTD_LINK,
    TOKEN_LINK,
    ZSTD_LINK,
    Setup,
    World,
)

pytestmark = pytest.mark.load

GROWTH = 32 * 1024 * 1024
"""Bytes that the interpreter and its caches may take beside what the cells leave."""


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return Setup.made(tmp_path_factory.mktemp("matrix"))


@pytest.fixture(scope="module")
def cleans(setup: Setup, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Clean]:
    where = tmp_path_factory.mktemp("clean")
    return {link: clean_run(where / link, setup, link) for link in LINKS}


@pytest.mark.parametrize("cell", [each for link in LINKS for each in cells(link)], ids=str)
def test_cell(
    cell: Cell,
    setup: Setup,
    cleans: dict[str, Clean],
    tmp_path: Path,
    report: Report,
) -> None:
    strike: Strike | None = None
    if cell.phase != CONNECT:
        strike = cleans[cell.link].strike(cell, Random(f"{report.seed} {cell}"))
    world = World(tmp_path, setup, cell.link, strike)
    with report.of(cell, strike):
        try:
            report.outcomes[cell] = run(world, cell)
            world.close()
            report.watch(world.objects())
        except BaseException:
            with contextlib.suppress(Exception):
                world.abandon()
            raise


def test_nothing_of_all_these_cells_is_left(report: Report) -> None:
    """Neither the objects of a connection, nor memory that grows with their number."""
    assert not report.still_alive()
    assert report.growth() < GROWTH


def test_each_kind_of_link_is_what_it_is_called(cleans: dict[str, Clean]) -> None:
    segments = {link: cleans[link].bytes_of_segments() for link in LINKS}
    plain = segments[PLAIN_LINK]
    assert max(segments[ZSTD_LINK], segments[TLS_ZSTD_LINK]) < 0.7 * plain
    assert min(segments[TLS_LINK], segments[TOKEN_LINK]) > plain, "records have headers"
