"""The defects of Oak's primary, by their numbers: not ours, and found if they were.

DEFECTS.md has the table. Each test runs twice: as we are, and with the defect planted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from links import BUFFER, Rig
from oak_samples import Whole
from planted import BOTH, found
from services import Master, until
from sides import MasterProgram, MasterSide, chain, large, store_of
from standbys import RawStandby, standby
from stores import bulk, head_in, leaf, make_store
from tls_made import NOW, Certs
from tls_standby import asked_for_head, connected, nothing_shown, shown
from twisted.internet.defer import maybeDeferred, succeed
from twisted.internet.error import CannotListenError

from tarfailover.config import MasterConfig, load
from tarfailover.deadline import Deadline
from tarfailover.errors import ConfigError
from tarfailover.master import report, sender
from tarfailover.master.factory import MasterFactory
from tarfailover.master.oak import HEAD_WAIT, OakConnection
from tarfailover.master.oaksources import OakSource
from tarfailover.master.service import MasterService
from tarfailover.tls import contexts, selfsigned, subject
from tarfailover.tls.authority import Authority
from tarfailover.tls.contexts import Contexts, Demand
from tarfailover.tls.files import certificates
from tarfailover.wire.oak.frames import HeadAnswer, ReferencesAnswer
from tarfailover.wire.oak.requests import GetHead, GetReferences, GetSegment

pytestmark = pytest.mark.load

SAMPLES = chain(5)
HEAD = head_in(SAMPLES[-1].segment)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return store_of(tmp_path / "store", SAMPLES)


@pytest.fixture
def certs(tmp_path: Path) -> Certs:
    return Certs(tmp_path)


# D10: with sslSubjectPattern every connection fails


@BOTH
@pytest_twisted.ensureDeferred
async def test_d10_a_subject_that_matches_is_served(
    planted: bool, certs: Certs, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        monkeypatch.setattr(subject, "matches", lambda *_: False)
    Authority(certs.directory / "good", NOW).init([], ["other"])
    settings = {**certs.shows("good/master"), "tls_ca": certs.path("good/ca.pem")}
    async with Master(store, **settings, tls_subject_pattern="CN=oa.*") as served:
        with found(planted):
            peer = await asked_for_head(served.port, shown(certs, "good/oak"))
            assert peer.answers == [HeadAnswer(HEAD)]
        peer = await asked_for_head(served.port, shown(certs, "good/other"))
        assert peer.raw == b""


# D11: secure without key files does not start


@BOTH
@pytest_twisted.ensureDeferred
async def test_d11_secure_without_key_files_starts(
    planted: bool, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        monkeypatch.setattr(selfsigned, "make", no_provider)
    file = tmp_path / "StandbyStoreService.config"
    file.write_text('mode="primary"\nsecure=B"true"\nport=I"0"\n')
    config = load(MasterConfig, {}, {"config": str(file), "store": str(store)})
    served = Master(store, tls_self_signed=config.tls_self_signed)
    served.service.startService()
    await until(lambda: bool(served.service.where or served.fatal), "listening, or the end")
    with found(planted):
        assert not served.fatal
        peer = await asked_for_head(served.port, nothing_shown())
        assert peer.answers == [HeadAnswer(HEAD)]
        assert (await asked_for_head(served.port)).raw == b"", "not in plain text"
    await maybeDeferred(served.service.stopService)


def no_provider(_: object) -> Any:
    """As a JVM without Bouncy Castle."""
    raise ConfigError("there is no provider for a self-signed certificate")


# D15: waits in the network thread, without end, and without a limit on clients


@BOTH
def test_d15_nobody_waits_for_another_ones_head(
    planted: bool, rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:

        def wait(self: OakConnection, asked: object, *, first: bool) -> list[Any]:
            del self, asked, first
            rig.clock.rightNow += HEAD_WAIT  # as a thread that sleeps
            return []

        monkeypatch.setattr(OakConnection, "_head", wait)
    side = MasterSide(rig, make_store(tmp_path / "s", {"data00000a.tar": SAMPLES}, []))
    waiting, _ = standby(side)
    other, _ = standby(side)
    with found(planted):
        waiting.ask(GetHead())
        rig.settle()
        other.ask(GetSegment(SAMPLES[0].segment))
        rig.settle()
        assert other.take() == [Whole(SAMPLES[0].segment, SAMPLES[0].data)]
        assert rig.seconds() == 0
    side.close()


@BOTH
@pytest.mark.parametrize("case", ["silent", "half a line", "idle", "slow reader"])
def test_d15_whoever_hangs_is_disconnected(
    planted: bool, case: str, rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        monkeypatch.setattr(Deadline, "start", lambda _: None)
    samples = large(20)
    side = MasterSide(rig, store_of(tmp_path / "s", samples), deadline_idle_standby=60.0)
    peer, link = standby(side) if case != "silent" else side.connect()
    if case == "half a line":
        peer.transport.write(b"Standby-CMD@x:")
    elif case == "idle":
        peer.ask(GetHead())
    elif case == "slow reader":
        link.master.held = True
        peer.ask(*(GetSegment(each.segment) for each in samples))
    rig.pass_time(70, step=5)
    with found(planted):
        assert not link.alive
    link.cut()
    side.close()


@BOTH
def test_d15_clients_are_limited(
    planted: bool, rig: Rig, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        monkeypatch.setattr(MasterFactory, "introduced", lambda *_: "")
    side = MasterSide(rig, store, max_clients=2)
    peers = [standby(side) for _ in range(3)]
    for peer, _ in peers:
        peer.ask(GetHead())
        rig.settle()
    with found(planted):
        assert [link.alive for _, link in peers] == [True, True, False]
    side.close()


@BOTH
def test_d15_answers_that_nobody_takes_are_limited(
    planted: bool, rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oak's server queues all of them in memory."""
    if planted:
        monkeypatch.setattr(sender, "READ_AHEAD", 10**9)
    samples = large(40)
    side = MasterSide(rig, store_of(tmp_path / "s", samples))
    peer, link = standby(side)
    link.master.held = True
    peer.ask(*(GetSegment(each.segment) for each in samples))
    rig.settle()
    with found(planted):
        ready = link.master.protocol.client.sender._ready
        assert sum(len(each.data) for each in ready) + len(link.master.pending) < 5 * 2**20 + BUFFER
    link.cut()
    side.close()


# D16: a failed bind leaves an "active" service


@BOTH
def test_d16_a_port_that_is_taken_ends_the_program(
    planted: bool, rig: Rig, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        monkeypatch.setattr(MasterService, "_not_listening", lambda *_: None)

    def taken(*_: object, **__: object) -> None:
        raise CannotListenError("127.0.0.1", 8023, OSError(98, "Address already in use"))

    monkeypatch.setattr(rig, "listenTCP", taken)
    program = MasterProgram(rig, store).start()
    with found(planted):
        assert [type(error) for error in program.fatal] == [ConfigError]
        assert "cannot listen" in str(program.fatal[0]) and "8023" in str(program.fatal[0])
        assert program.fatal[0].exit_code
        assert report.condition(program.service)[0] == report.STARTING
        assert report.health(program.service) == (False, "starting")
    program.stop()


# D17: stopping disconnects nobody, and the status is that of the last event


@BOTH
def test_d17_a_master_that_stops_serves_nobody(
    planted: bool, rig: Rig, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        monkeypatch.setattr(MasterService, "_drain", lambda *_: succeed(None))
    program = MasterProgram(rig, store).start()
    assert program.service.factory is not None
    peer, link = _through(rig, program)
    peer.ask(GetHead())
    rig.settle()
    assert peer.take() == [HeadAnswer(HEAD)]
    program.stop()
    with found(planted):
        assert not link.alive
    link.cut()


@BOTH
def test_d17_the_state_is_what_the_master_is_at(
    planted: bool, rig: Rig, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happens on a connection."""
    told: list[str] = []
    if planted:

        def last_event(_: MasterService) -> tuple[str, str]:
            return (told[-1] if told else report.SERVING), ""

        monkeypatch.setattr(report, "condition", last_event)
        take = OakConnection._take
        monkeypatch.setattr(
            OakConnection,
            "_take",
            lambda self, data: told.append("got message") or take(self, data),
        )
    program = MasterProgram(rig, store).start()
    with found(planted):
        peer, link = _through(rig, program)
        assert report.report(program.service)["state"] == report.SERVING
        peer.ask(GetHead())
        rig.settle()
        assert report.report(program.service)["state"] == report.SERVING
        peer.transport.write(b"S" * 10_000)
        rig.settle()
        assert not link.alive
        assert report.report(program.service)["state"] == report.SERVING
    program.stop()
    if not planted:
        assert report.report(program.service)["state"] == report.STOPPING


def _through(rig: Rig, program: MasterProgram) -> tuple[Any, Any]:
    """A standby that came in by the door."""
    assert rig.master is not None
    peer = RawStandby()
    link = rig.join(peer, rig.master())
    rig.settle()
    assert program.service.gate is not None
    return peer, link


# D20: the references of a bulk segment


@BOTH
def test_d20_references_of_a_bulk_segment(
    planted: bool, rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = bulk(1, 100)
    if planted:
        answer = OakSource._answer

        def dies(self: OakSource, wanted: Any) -> Any:
            if wanted == GetReferences(block.segment):
                raise RuntimeError("a bulk segment has no references")
            return answer(self, wanted)

        monkeypatch.setattr(OakSource, "_answer", dies)
    side = MasterSide(rig, store_of(tmp_path / "s", [block, leaf(1, [block.segment])]))
    peer, link = standby(side)
    peer.ask(GetReferences(block.segment))
    rig.settle()
    with found(planted):
        assert peer.take() == [ReferencesAnswer(block.segment, [])]
        assert link.alive
    side.close()


# D21: whom TLS trusts


@BOTH
@pytest_twisted.ensureDeferred
async def test_d21_the_name_of_the_host_is_checked(
    planted: bool, certs: Certs, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        monkeypatch.setattr(Demand, "_other_name", lambda *_: "")
    certs.made("named", NOW, host="oak.example.org")
    ca = certs.path("named/ca.pem")
    async with (
        Master(store, **certs.shows("named/master")) as served,
        served.slave(tmp_path / "copy", tls_ca=ca, retry_initial=60.0, retry_max=60.0) as slave,
    ):
        await slave.reaches(lambda: slave.service.status.state != "connecting", "an end")
        with found(planted):
            assert "is for oak.example.org, not for 127.0.0.1" in slave.service.status.why


@BOTH
@pytest_twisted.ensureDeferred
async def test_d21_only_the_authority_that_is_named_is_trusted(
    planted: bool, certs: Certs, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not whatever else the machine, or Java, trusts."""
    if planted:
        monkeypatch.setattr(contexts.Judge, "__call__", lambda *_: True)
    certs.made("other", NOW)
    settings = {**certs.shows("good/master"), "tls_ca": certs.path("good/ca.pem")}
    async with Master(store, **settings) as served:
        peer = await asked_for_head(served.port, shown(certs, "other/oak"))
        with found(planted):
            assert peer.raw == b""


@BOTH
@pytest_twisted.ensureDeferred
async def test_d21_a_revoked_certificate_is_refused(
    planted: bool, certs: Certs, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Authority(certs.directory / "good", NOW).revoke("oak")
    if planted:
        monkeypatch.setattr("tarfailover.tls.files.revocations", lambda _: ())
    settings = {**certs.shows("good/master"), "tls_ca": certs.path("good/ca.pem")}
    async with Master(store, **settings, tls_crl=certs.path("good/crl.pem")) as served:
        peer = await asked_for_head(served.port, shown(certs, "good/oak"))
        with found(planted):
            assert peer.raw == b""


@BOTH
@pytest_twisted.ensureDeferred
async def test_d21_a_new_certificate_counts_without_a_restart(
    planted: bool, certs: Certs, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if planted:
        monkeypatch.setattr(Contexts, "refresh", lambda _: None)
    certs.made("new", NOW)
    own = {name: tmp_path / f"own-{name}" for name in ("tls_certificate", "tls_key")}

    def put(stem: str) -> None:
        for name, source in certs.shows(stem).items():
            own[name].write_bytes(Path(source).read_bytes())

    put("good/master")
    async with Master(store, **{name: str(path) for name, path in own.items()}) as served:
        peer = await connected(served.port, nothing_shown())
        peer.transport.abortConnection()
        put("new/master")
        peer = await connected(served.port, nothing_shown())
        peer.ask(GetHead())
        await until(lambda: bool(peer.answers), "an answer")
        certificate = peer.transport.getPeerCertificate().to_cryptography()
        peer.transport.abortConnection()
        with found(planted):
            (ca,) = certificates(certs.path("new/ca.pem"))
            assert certificate.issuer == ca.subject
