"""When the judge may stay away: the rules, which need neither Java nor a network."""

from __future__ import annotations

from pathlib import Path

import pytest
from oak_build import (
    OakAbsentError,
    OakError,
    OakOfflineError,
    Toolchain,
    build,
    maven_found_no_network,
    oak_is_required,
    offline_is_a_failure,
)

_NOT_RESOLVED = (
    "[ERROR]     Non-resolvable import POM: Could not transfer artifact"
    " org.apache.jackrabbit:oak-parent:pom:1.82.0 from/to central (https://repository.invalid/):"
    " transfer failed for https://repository.invalid/oak-parent-1.82.0.pom @ line 24, column 19: "
)
NO_CONNECTION = _NOT_RESOLVED + "Connect to repository.invalid failed: Connection refused"
UNKNOWN_HOST = _NOT_RESOLVED + "Unknown host repository.invalid: Name or service not known"
OFFLINE = (
    "[ERROR] Cannot access central in offline mode and the artifact"
    " org.apache.jackrabbit:oak-segment-tar:jar:1.82.0 has not been downloaded from it before."
)
REFUSED = _NOT_RESOLVED + "authorization failed, status code: 403, reason phrase: Forbidden (403)"
ABSENT = "[ERROR] Could not find artifact org.apache.jackrabbit:oak-segment-tar:pom:999 in central"


@pytest.mark.parametrize(
    ("output", "no_network"),
    [
        (NO_CONNECTION, True),
        (UNKNOWN_HOST, True),
        (OFFLINE, True),
        (REFUSED, False),
        (ABSENT, False),
        ("", False),
    ],
)
def test_no_network_is_told_from_a_refusal(output: str, no_network: bool) -> None:
    assert maven_found_no_network(output) is no_network


@pytest.mark.parametrize(
    ("environ", "offline_fails", "required"),
    [
        ({}, False, False),
        ({"CI": ""}, False, False),
        ({"CI": "false"}, False, False),
        ({"CI": "true"}, True, False),
        ({"TARFAILOVER_INTEROP": "required"}, True, True),
    ],
)
def test_what_is_a_failure(environ: dict[str, str], offline_fails: bool, required: bool) -> None:
    assert offline_is_a_failure(environ) is offline_fails
    assert oak_is_required(environ) is required


def test_everything_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(OakAbsentError) as absent:
        Toolchain.find(tmp_path, path=str(tmp_path))
    for part in ("java", "javac", "mvn"):
        assert part in str(absent.value)


def _toolchain(folder: Path, mvn: str) -> Toolchain:
    """A tool chain with a Maven that runs the shell script `mvn`."""
    source, pom, program = folder / "Peer.java", folder / "pom.xml", folder / "mvn"
    source.write_text("class Peer {}")
    pom.write_text("<project/>")
    program.write_text(f"#!/bin/sh\n{mvn}\n")
    program.chmod(0o755)
    return Toolchain("/bin/true", "/bin/true", str(program), pom, (source,))


def test_a_maven_without_network_is_offline(tmp_path: Path) -> None:
    tools = _toolchain(tmp_path, f"echo '{NO_CONNECTION}'; exit 1")
    with pytest.raises(OakOfflineError, match="Connection refused"):
        build(tools, tmp_path / "cache")


def test_a_refusing_maven_is_a_failure_with_its_words(tmp_path: Path) -> None:
    tools = _toolchain(tmp_path, f"echo '{REFUSED}'; exit 1")
    with pytest.raises(OakError, match="status code: 403") as failed:
        build(tools, tmp_path / "cache")
    assert not isinstance(failed.value, OakOfflineError)


def test_a_failed_build_leaves_nothing_that_the_next_would_believe(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(OakError):
        build(_toolchain(tmp_path, "exit 1"), cache)
    assert [path.name for path in cache.iterdir()] == ["lock"]
    build(_toolchain(tmp_path, f"echo once >> {tmp_path}/runs"), cache)
    build(_toolchain(tmp_path, "exit 1"), cache)
    assert (tmp_path / "runs").read_text() == "once\n"


def test_another_pom_or_source_is_another_build(tmp_path: Path) -> None:
    tools = _toolchain(tmp_path, f"echo once >> {tmp_path}/runs")
    cache = tmp_path / "cache"
    seen = {build(tools, cache).class_path}
    tools.sources[0].write_text("class Peer { }")
    seen.add(build(tools, cache).class_path)
    assert (tmp_path / "runs").read_text() == "once\n", "Maven is asked for a pom once"
    tools.pom.write_text("<project><!-- newer --></project>")
    seen.add(build(tools, cache).class_path)
    assert len(seen) == 3
    assert (tmp_path / "runs").read_text() == "once\nonce\n"
