"""The fault matrix: every fault, in every phase, in either direction, over every kind of link."""

from __future__ import annotations

import contextlib
from pathlib import Path
from random import Random

import pytest
from cells import LINKS, Cell, Clean, World, cells, clean_run, run, template
from failing import Strike
from matrix import Report
from tls_made import Certs

GROWTH = 32 * 1024 * 1024
"""Bytes that the interpreter and its caches may take beside what the cells leave."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template(tmp_path_factory.mktemp("matrix") / "store")


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    return Certs(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def cleans(store: Path, certs: Certs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Clean]:
    where = tmp_path_factory.mktemp("clean")
    return {
        link: clean_run(where / link, store, certs if link != "plain" else None) for link in LINKS
    }


@pytest.mark.parametrize("cell", [each for link in LINKS for each in cells(link)], ids=str)
def test_cell(
    cell: Cell,
    store: Path,
    certs: Certs,
    cleans: dict[str, Clean],
    tmp_path: Path,
    report: Report,
) -> None:
    strike: Strike | None = None
    if cell.phase != "connect":
        strike = cleans[cell.link].strike(cell, Random(f"{report.seed} {cell}"))
    world = World(tmp_path, store, certs if cell.link != "plain" else None, strike)
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
