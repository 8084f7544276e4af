"""What is built from the checkout holds what it should, and nothing else."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from installs import CHECKOUT, python_files

CFG = configparser.ConfigParser()
CFG.read(CHECKOUT / "setup.cfg")


def test_every_package_is_listed() -> None:
    """The list in setup.cfg is by hand; a package that is not on it would not be installed."""
    folders = {init.parent for init in (CHECKOUT / "tarfailover").rglob("__init__.py")}
    packages = {".".join(folder.relative_to(CHECKOUT).parts) for folder in folders}
    assert set(CFG["options"]["packages"].split()) == packages | {"twisted.plugins"}


def test_the_plugins_folder_is_no_package() -> None:
    assert list((CHECKOUT / "twisted").rglob("__init__.py")) == []


def test_the_wheel_holds_the_code_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {n for n in archive.namelist() if ".dist-info/" not in n}
    assert names == python_files() | {"tarfailover/py.typed"}


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
        licences = [n for n in archive.namelist() if n.endswith("/LICENSE")]
    assert re.search(r"^License(-Expression)?: Apache-2\.0$", text, re.MULTILINE)
    assert len(licences) == 1


def test_the_source_archive_is_enough_to_run_the_tests(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {n.split("/", 1)[-1] for n in archive.getnames()}
    wanted = {
        "LICENSE",
        "NEWS.md",
        "DEFECTS.md",
        "MANUAL.md",
        "pyproject.toml",
        "setup.cfg",
        "scripts/test",
        "scripts/interop",
        "tests/interop/pom-1.22.xml",
        "tests/interop/peer/OakPeer.java",
        "scripts/_env.py",
    }
    assert wanted | python_files() | {"tests/conftest.py"} <= names
    assert [n for n in names if n.endswith((".pyc", "dropin.cache"))] == []


def test_every_bound_is_tested() -> None:
    """Each lower bound in setup.cfg is the lowest version that scripts/oldest.txt pins."""
    bound = re.compile(r"^([\w.-]+) >= ([\d.]+)(?: ;.*)?$", re.MULTILINE)
    pin = re.compile(r"^([\w.-]+) == ([\d.]+)", re.MULTILINE)
    lowest: dict[str, tuple[int, ...]] = {}
    for name, version in pin.findall((CHECKOUT / "scripts/oldest.txt").read_text()):
        number = tuple(map(int, version.split(".")))
        lowest[name] = min(number, lowest.get(name, number))
    promised = bound.findall(CFG["options"]["install_requires"])
    assert {n: tuple(map(int, v.split("."))) for n, v in promised} == lowest


def test_the_news_can_be_put_together() -> None:
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "X"]
    draft = subprocess.run(
        command, check=True, cwd=CHECKOUT, capture_output=True, text=True, timeout=60
    )
    fragments = [f for f in (CHECKOUT / "newsfragments").glob("*.md") if f.name != "README.md"]
    for fragment in fragments:
        assert " ".join(fragment.read_text().split()) in " ".join(draft.stdout.split())
