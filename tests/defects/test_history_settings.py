"""Oak's history of bugs in configuration and addresses: not ours, and found if they were.

DEFECTS.md has the table. Each test runs twice: as we are, and with the defect planted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from links import Rig
from oak_files import of_file
from oak_sides import Served
from planted import BOTH, found
from sides import MasterProgram, SlaveSide, chain, store_of
from stores import bulk, head_in, leaf

from tarfailover import config, given, oakfiles, osgi, osgi_json
from tarfailover.access import names
from tarfailover.access.names import Names
from tarfailover.access.ranges import Address, Ranges, address
from tarfailover.config import MasterConfig, SlaveConfig
from tarfailover.errors import ConfigError
from tarfailover.master import service as master_service
from tarfailover.slave import status
from tarfailover.slave.cleaning import Cleaning
from tarfailover.wire.oak.requests import GetSegment, Request

pytestmark = pytest.mark.load

CONF = Path(__file__).parents[2] / "conf"
EXAMPLES = sorted(path for path in CONF.glob("*/*") if path.is_file())
SAMPLES = chain(3)
BLOCK = bulk(1, 200_000)
TOP = leaf(1, [BLOCK.segment])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return store_of(tmp_path / "store", SAMPLES)


# OAK-1915: the server could only be reached from its own machine


@BOTH
def test_oak_1915_it_listens_where_it_is_told(
    planted: bool, rig: Rig, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        endpoint = master_service._endpoint

        def only_here(config: MasterConfig, reactor: Any) -> Any:
            return endpoint(dataclasses.replace(config, interface="127.0.0.1"), reactor)

        monkeypatch.setattr(master_service, "_endpoint", only_here)
    program = MasterProgram(rig, store, interface="10.0.0.1").start()
    with found(planted):
        assert program.service.where == "10.0.0.1:8023"
    program.stop()


@BOTH
def test_oak_1915_a_primary_for_its_own_machine_alone_says_so(
    planted: bool,
    rig: Rig,
    store: Path,
    tmp_path: Path,
    log: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ours is one by default: whoever comes with a file of Oak's expects every address."""
    if planted:
        monkeypatch.setattr(master_service, "is_loopback", lambda _: False)
    mode = of_file(MasterConfig, tmp_path, 'mode="primary"').mode
    program = MasterProgram(rig, store, mode=mode).start()
    with found(planted):
        assert any(line.startswith("warn with such a file Oak listens on every") for line in log)
    program.stop()


# OAK-2189: the examples of configurations had old names


@BOTH
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}{path.suffix}")
def test_oak_2189_no_name_in_an_example_is_passed_over(
    planted: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        from_file = given.from_file

        def known_alone(rows: Any, values: Any) -> Any:
            known = {name for row in rows for name in (row.osgi, *row.oak)}
            return from_file(rows, {name: values[name] for name in values if name in known})

        monkeypatch.setattr("tarfailover.given.from_file", known_alone)
    kind: Any = MasterConfig if path.parent.name in ("master", "primary") else SlaveConfig
    values = config.read_file(path)
    options = {"store": "/s"}
    config.merge(kind, values, {}, options)
    for name in values:
        renamed = {f"old.{each}" if each == name else each: values[each] for each in values}
        with found(planted):
            assert _refused(kind, renamed, options) == f"unknown property old.{name}"


def _refused(kind: Any, values: dict[str, osgi.Entry], options: dict[str, Any]) -> str:
    """The first words of the refusal; '' if there is none."""
    try:
        config.merge(kind, values, {}, options)
    except ConfigError as error:
        return str(error).partition(": ")[2].partition(";")[0]
    return ""


# OAK-2355, 2398 and 3961: timeouts that nobody could set, and that were not the same everywhere


def connecting(rig: Rig, served: Served) -> Callable[[], float]:
    """Nobody answers."""
    del served
    rig.answers = False
    return lambda: 0.0


def answering(rig: Rig, served: Served) -> Callable[[], float]:
    """The primary answers no question for a segment."""
    asked: list[float] = []

    def silent(request: Request) -> bool:
        if isinstance(request, GetSegment):
            asked.append(rig.seconds())
        return bool(asked)

    served.silent = silent
    return lambda: asked[0]


def going_on(rig: Rig, served: Served) -> Callable[[], float]:
    """One segment comes, and then no more."""
    begun: list[float] = []

    def silent(request: Request) -> bool:
        if isinstance(request, GetSegment):
            begun.append(rig.seconds())
        return len(begun) > 1

    served.silent = silent
    return lambda: begun[0]


PHASES = {"connect": connecting, "answer": answering, "idle": going_on}


def given_up_after(rig: Rig, tmp_path: Path, phase: str, told: SlaveConfig) -> float:
    """Seconds after which a slave gives up in `phase`; 0 if not within a minute and a half."""
    served = Served([BLOCK, TOP], head_in(TOP.segment))
    rig.master = served.primary
    since = PHASES[phase](rig, served)
    names = ("deadline_connect", "deadline_answer", "deadline_idle")
    slave = SlaveSide(
        rig, tmp_path / "copy", dialect="oak", **{name: getattr(told, name) for name in names}
    )
    slave.start()
    for _ in range(900):
        if slave.state == status.STALLED:
            break
        rig.pass_time(0.1)
    seconds = rig.seconds() - since() if slave.state == status.STALLED else 0.0
    if phase != "connect":
        assert f"deadline {phase}" in slave.service.status.why or not seconds
    slave.stop()
    return seconds


@BOTH
@pytest.mark.parametrize("phase", PHASES)
def test_oak_2355_the_timeout_is_what_the_file_says(
    planted: bool, phase: str, rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OAK-2355, 2398: it was 5, 10 or 120 seconds, whatever the size and the line."""
    if planted:
        monkeypatch.setattr(oakfiles, "_READ_TIMEOUTS", ())
    told = of_file(SlaveConfig, tmp_path, 'mode="standby"', 'standby.readtimeout=I"45000"')
    with found(planted):
        assert given_up_after(rig, tmp_path, phase, told) == pytest.approx(45, abs=0.2)


@BOTH
@pytest.mark.parametrize("phase", PHASES)
def test_oak_3961_the_one_value_counts_everywhere(
    planted: bool, phase: str, rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        others = tuple(each for each in oakfiles._READ_TIMEOUTS if not each.endswith(phase))
        monkeypatch.setattr(oakfiles, "_READ_TIMEOUTS", others)
    told = of_file(SlaveConfig, tmp_path, 'mode="standby"', 'standby.readtimeout=I"2000"')
    with found(planted):
        assert given_up_after(rig, tmp_path, phase, told) == pytest.approx(2, abs=0.2)


# OAK-4738, 4784, 4801: addresses of 128 bits in 64, and names


@BOTH
@pytest.mark.parametrize(
    ("allowed", "client"),
    [
        ("2001:db8::1", "2001:db9::1"),
        ("2001:db8::1-2001:db8::ff", "fd00::10"),
        ("::1", "fe80::1"),
        ("0.0.0.0-255.255.255.255", "::1"),
    ],
)
def test_oak_4738_all_bits_of_an_address_count(
    planted: bool, allowed: str, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:

        def of_64_bits(self: Ranges, client: Address, _: object = ()) -> bool:
            low = (1 << 64) - 1
            number = int(client) & low
            return any(int(a) & low <= number <= int(b) & low for a, b in self.spans)

        monkeypatch.setattr(Ranges, "allow", of_64_bits)
    with found(planted):
        assert not Ranges.parse(allowed).allow(address(client))
    assert Ranges.parse(client).allow(address(client))


@BOTH
def test_oak_4801_a_name_is_what_it_is_when_somebody_connects(
    planted: bool, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not what it was when the master started."""
    now = ["10.0.0.1"]
    monkeypatch.setattr(names, "look_up", lambda _: frozenset(map(address, now)))
    if planted:
        monkeypatch.setattr(Names, "_look", _only_once(Names._look))
    looking = Names(["oak2"], rig.clock, rig.work(), 60.0, 5.0)  # type: ignore[arg-type]
    looking.start()
    rig.settle()
    ranges = Ranges.parse("oak2")
    assert ranges.allow(address("10.0.0.1"), looking.addresses)
    now[:] = ["10.0.0.2"]
    rig.pass_time(61, step=1)
    with found(planted):
        assert ranges.allow(address("10.0.0.2"), looking.addresses)
        assert not ranges.allow(address("10.0.0.1"), looking.addresses)
    looking.stop()


def _only_once(look: Callable[[Names], Any]) -> Callable[[Names], Any]:
    def once(self: Names) -> Any:
        return look(self) if self._next is None else None

    return once


# OAK-4877, 4247: a file under the old name was silently ignored

OLD = [
    "org.apache.jackrabbit.oak.plugins.segment.failover.store.FailoverStoreService",
    "org.apache.jackrabbit.oak.plugins.segment.standby.store.StandbyStoreService",
    "org.apache.jackrabbit.oak.segment.standby.store.StandbyStoreService",
]


def _ignored(_: object, values: dict[str, osgi.Entry]) -> Any:
    """As the framework does with a file that no service asks for."""
    known = values["service.pid"].value == OLD[-1]
    return ({"port": values["port"]} if known else {}), oakfiles.OakProperties()


@BOTH
@pytest.mark.parametrize("pid", OLD[:-1])
def test_oak_4877_a_file_under_an_old_name_counts(
    planted: bool, pid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        monkeypatch.setattr(oakfiles, "split", _ignored)
    told = of_file(MasterConfig, tmp_path, f'service.pid="{pid}"', 'port=I"8024"')
    with found(planted):
        assert told.port == 8024


@BOTH
def test_oak_4877_a_file_of_another_service_is_refused_aloud(
    planted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        monkeypatch.setattr(oakfiles, "split", _ignored)
    pid = "org.apache.jackrabbit.oak.segment.SegmentNodeStoreService"
    with found(planted):
        told = ""
        try:
            of_file(MasterConfig, tmp_path, f'service.pid="{pid}"', 'port=I"8024"')
        except ConfigError as error:
            told = str(error)
        assert "this is the file of" in told


# OAK-5514: the automatic cleanup was off unless somebody asked for it


@BOTH
def test_oak_5514_cleanup_is_on_unless_somebody_turns_it_off(
    planted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        standby = oakfiles.for_slave

        def off(found: oakfiles.OakProperties, given: Any) -> Iterator[tuple[str, Any]]:
            yield from standby(dataclasses.replace(found, auto_clean=False), given)

        monkeypatch.setitem(config.merging._IMPLIED, SlaveConfig, off)

    def cleans(*lines: str) -> bool:
        told = of_file(SlaveConfig, tmp_path, *lines)
        return Cleaning(told, status.Status(), _never, lambda: 0.0)._enabled

    with found(planted):
        assert cleans('mode="standby"') and cleans('mode="slave"')
    assert not cleans('mode="standby"', 'standby.autoclean=B"false"')


async def _never(_: object) -> None:
    raise AssertionError("nothing is cleaned here")


# OAK-9677: the mode was compared with another word


@BOTH
@pytest.mark.parametrize(
    ("kind", "mode", "other"),
    [
        (MasterConfig, "primary", "standby"),
        (SlaveConfig, "standby", "primary"),
        (MasterConfig, "master", "slave"),
        (SlaveConfig, "slave", "master"),
    ],
)
def test_oak_9677_each_mode_starts_its_side(
    planted: bool, kind: Any, mode: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        words = {"primary": "slave", "standby": "master", "master": "slave", "slave": "master"}
        monkeypatch.setattr("tarfailover.settings._LATER_NAMES", words)

    def starts(word: str) -> bool:
        values = osgi_json.parse(f'{{"mode": "{word}"}}', "f")
        try:
            config.merge(kind, values, {}, {"store": "s"})
        except ConfigError:
            return False
        return True

    with found(planted):
        assert starts(mode) and not starts(other)
