"""What scripts/demo does, step by step; see the description that --help prints."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from _demo_line import SlowLine
from _demo_processes import DemoError, Interrupted, Server, Servers, Wish
from _demo_show import MIB, Row, Show
from _demo_stores import Amount, Watch, check_space, copy_store, files_of, needed, store_in

from tarfailover.errors import TarFailoverError
from tarfailover.repository.sample import write_sample
from tarfailover.store.writer import StoreWriter

DESCRIPTION = """\
Shows what tarfailover does, with real processes on this machine:

  - writes a sample repository, or copies yours;
  - starts a master on it, and a slave that makes its first copy;
  - commits more, and measures when each commit is durable at the slave;
  - kills a second slave with SIGKILL in the middle of its first copy, starts it
    again, and counts what it had and what it still pulled;
  - proves that both copies equal the original, byte for byte.

All of it happens in a directory that is removed at the end, and on 127.0.0.1 only."""

START_SECONDS = 30.0
STALL_SECONDS = 60.0
"""Time in which a copy must have got further."""
FOLLOW_SECONDS = 30.0
PROOF_SECONDS = 60.0
"""Time to check or compare a store, and so many more for each GiB of it."""
SPACE_FACTOR = 4
"""The original, two copies, and room for what is added."""

KILL_AT = 0.5
STAND_AT = 0.75
"""Parts of the second slave's copy: killed when the one is there, and meanwhile the line
lets no more through than the other."""
LINE_SECONDS = 3.0
"""What the copy over the slow line takes, were it not cut."""

FOLLOWED_NODES = 50
FOLLOWED_KIB = 64
DURABLE = r"head {head} is durable, .* (\d+) segments, ([\d.]+) MiB/s"
"""What a slave says when a head is on its disk; see tarfailover/slave."""


class Pulled(NamedTuple):
    """What a slave says about the copy of a head."""

    segments: int
    rate: float
    """Bytes a second."""


class Demo:
    """One run in `directory`, with the options of the command line."""

    def __init__(
        self, options: argparse.Namespace, directory: Path, servers: Servers, show: Show
    ) -> None:
        self.options = options
        self.directory = directory
        self.servers = servers
        self.show = show
        self.original = directory / "master"

    def run(self) -> None:
        """All of it; raises DemoError, TarFailoverError, Interrupted."""
        if self.options.store is None:
            self._write()
        else:
            self._copy(store_in(self.options.store))
        port = self._serve()
        slave = self._first_copy(port)
        self._follow(slave)
        self._cut_and_resume(port)
        self._prove("slave", "slave2")
        self._end()

    # the original

    def _write(self) -> None:
        o = self.options
        self.show.step("A repository to copy")
        started = time.monotonic()
        with (
            StoreWriter.open(self.original, create=True) as writer,
            self.show.bar("nodes", o.nodes) as moved,
        ):

            def progress(done: int) -> None:
                self.servers.check()
                moved(done)

            write_sample(
                writer,
                nodes=o.nodes,
                binary_kib=o.binary_kib,
                commits=4,
                seed=o.seed,
                progress=progress,
            )
        self._made("sample written", time.monotonic() - started)

    def _copy(self, source: Path) -> None:
        self.show.step(f"A copy of {source}, which is only read")
        needed(source)
        total = sum(path.stat().st_size for path in files_of(source))
        check_space(self.directory, SPACE_FACTOR * total)
        started = time.monotonic()
        with self.show.bar("MiB", total / MIB) as moved:

            def progress(done: int) -> None:
                self.servers.check()
                moved(done / MIB)

            copy_store(source, self.original, progress)
        self._made("your store copied", time.monotonic() - started)

    def _made(self, what: str, seconds: float) -> None:
        head, amount = needed(self.original)
        self.show.say(f"{amount}, in {seconds:.1f} s; head {head}")
        self.show.happened(Row(what, *amount, seconds))

    # master and first slave

    def _serve(self) -> int:
        """Start the master; returns its port."""
        self.show.step("A master serves it, and only reads")
        command = ("tarfailover-master", "--store", "master", "--port", "0")
        self.show.command("twistd -n", *command)
        master = self.servers.start("master", *command)
        said = r"listening on 127\.0\.0\.1:(\d+)"
        self.servers.until("the master to listen", START_SECONDS, lambda: master.said(said))
        port = int(_found(master, said)[1])
        self.show.say(f"listening on 127.0.0.1:{port}, a port that was free")
        return port

    def _slave(self, name: str, port: int) -> Server:
        command = ("tarfailover-slave", "--store", name, "--port", str(port))
        self.show.command("twistd -n", *command)
        return self.servers.start(name, *command)

    def _first_copy(self, port: int) -> Server:
        self.show.step("A slave makes its first copy")
        head, amount = needed(self.original)
        slave = self._slave("slave", port)
        pulled = self._copied(slave, head, amount)
        seconds = amount.size / pulled.rate if pulled.rate else 0.0
        self.show.say(f"{amount}, verified, and durable in {seconds:.2f} s")
        self.show.happened(Row("first copy", pulled.segments, amount.size, seconds))
        return slave

    def _copied(self, slave: Server, head: str, amount: Amount) -> Pulled:
        """Wait until `head` is durable at the slave, for as long as its copy grows."""
        said = _durable(head)
        with (
            Watch(self.directory / slave.name) as watch,
            self.show.bar("MiB", amount.size / MIB) as moved,
        ):

            def moving() -> Amount:
                have = watch.amount()
                moved(have.size / MIB)
                return have

            what = f"the {slave.name} to copy more"
            self.servers.until(what, STALL_SECONDS, lambda: slave.said(said), moving)
            moved(amount.size / MIB)
        found = _found(slave, said)
        return Pulled(int(found[1]), float(found[2]) * MIB)

    # following

    def _follow(self, slave: Server) -> None:
        commits = self.options.commits
        self.show.step(f"{commits} commits into the store that is served; the slave follows")
        before = needed(self.original).amount
        waits = []
        with (
            StoreWriter.open(self.original) as writer,
            self.show.bar("commits", commits) as moved,
        ):
            for number in range(commits):
                waits.append(self._followed(writer, slave, number))
                moved(number + 1)
        added = needed(self.original).amount.without(before)
        median, slowest = 1000 * statistics.median(waits), 1000 * max(waits)
        self.show.say(
            f"from a commit to its head durable at the slave: median {median:.0f} ms, "
            f"slowest {slowest:.0f} ms"
        )
        self.show.happened(Row(f"{commits} commits followed", *added, sum(waits), rated=False))

    def _followed(self, writer: StoreWriter, slave: Server, number: int) -> float:
        """Commit once; the seconds from then until the slave has it."""
        write_sample(writer, nodes=FOLLOWED_NODES, binary_kib=FOLLOWED_KIB, commits=1, seed=number)
        committed = time.monotonic()
        said = _durable(str(writer.head))
        what = f"the slave to follow commit {number + 1}"
        self.servers.until(what, FOLLOW_SECONDS, lambda: slave.said(said))
        return time.monotonic() - committed

    # killed in the middle

    def _cut_and_resume(self, port: int) -> None:
        head, amount = needed(self.original)
        rate = max(amount.size / LINE_SECONDS, MIB)
        self.show.step("A second slave is killed in the middle of its first copy")
        with SlowLine(port, rate) as line:
            self.show.say(f"it pulls over a line of {rate / MIB:,.0f} MiB/s, to have a middle")
            had = self._cut(line, amount)
            self.show.step("It is started again, and goes on where it was")
            self._resume(line, head, amount, had)

    def _cut(self, line: SlowLine, amount: Amount) -> Amount:
        """Start a slave and kill it; returns what is in its directory then."""
        line.limit(int(amount.size * STAND_AT))
        started = time.monotonic()
        slave = self._slave("slave2", line.port)
        with (
            Watch(self.directory / slave.name) as watch,
            self.show.bar("MiB", amount.size / MIB) as moved,
        ):

            def middle() -> bool:
                have = watch.amount().size
                moved(have / MIB)
                return have >= amount.size * KILL_AT or (line.stands and have > 0)

            self.servers.until("the middle of the copy", STALL_SECONDS, middle, lambda: line.passed)
            slave.kill()
            seconds = time.monotonic() - started
            had = watch.amount(at_once=True)
            if watch.has_head:
                raise DemoError("the copy has a head although it is not whole")
        line.limit(None)
        if had.segments >= amount.segments:
            raise DemoError("the copy was complete before it could be killed")
        share = 100 * had.size // amount.size
        self.show.say(f"SIGKILL at {share} %: {had} are whole in its directory; no head yet")
        self.show.happened(Row("copy over the line, killed", *had, seconds))
        return had

    def _resume(self, line: SlowLine, head: str, amount: Amount, had: Amount) -> None:
        passed, started = line.passed, time.monotonic()
        slave = self._slave("slave2", line.port)
        pulled = self._copied(slave, head, amount)
        seconds = time.monotonic() - started
        left = amount.without(had)
        self.show.say(
            f"had {had.segments:,} segments, needed {amount.segments:,}, pulled "
            f"{pulled.segments:,}; {(line.passed - passed) / MIB:,.1f} MiB came over the line"
        )
        if pulled.segments != left.segments:
            raise DemoError(f"{left.segments} segments were lacking, not {pulled.segments}")
        self.show.say("nothing was pulled twice")
        self.show.happened(Row("the same, continued", *left, seconds))

    # the end

    def _prove(self, *copies: str) -> None:
        self.show.step("The proof: each copy is whole, and equal to the original")
        for copy in copies:
            checked = self._tarfailover("check", copy)
            amount = Amount(checked["closure"]["segments"], checked["closure"]["bytes"])
            self.show.say(f"no fault; its head needs {amount}, and all of it is there")
        for copy in copies:
            compared = self._tarfailover("compare", "master", copy)
            amount = Amount(compared["segments"], compared["bytes"])
            self.show.say(f"equal: the same head, {amount}, byte for byte")

    def _tarfailover(self, command: str, *stores: str) -> dict[str, Any]:
        """Run a command that must find all well; returns its JSON."""
        self.show.command("tarfailover", command, *stores)
        seconds = PROOF_SECONDS * (1 + needed(self.original).amount.size / (1024 * MIB))
        code, output = self.servers.run(command, "--json", *stores, seconds=seconds)
        if code:
            raise DemoError(f"tarfailover {command} {' '.join(stores)} ended with {code}")
        found: dict[str, Any] = json.loads(output)
        return found

    def _end(self) -> None:
        self.show.step("The end")
        started = time.monotonic()
        codes = self.servers.stop()
        seconds = time.monotonic() - started
        told = ", ".join(f"{name} {code}" for name, code in codes.items())
        self.show.say(f"stopped by SIGTERM within {seconds:.1f} s; exit codes: {told}")
        if any(codes.values()):
            raise DemoError("a process did not stop well")
        self.show.table()
        self.show.say("(a copy over the line is timed from the start of the slave's process)")


def _durable(head: str) -> str:
    return DURABLE.format(head=re.escape(head))


def _found(server: Server, pattern: str) -> re.Match[str]:
    found = server.said(pattern)
    if found is None:
        raise DemoError(f"the log of the {server.name} was cut")
    return found


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    made = argparse.ArgumentParser(
        prog="scripts/demo",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--store",
        metavar="DIR",
        type=Path,
        help="do it with a copy of this segmentstore (of Oak, of AEM), which is never changed",
    )
    made.add_argument("--nodes", metavar="N", type=int, default=6000, help=_HELP["nodes"])
    made.add_argument("--binary-kib", metavar="N", type=int, default=160, help=_HELP["binary"])
    made.add_argument("--commits", metavar="N", type=int, default=10, help=_HELP["commits"])
    made.add_argument("--seed", metavar="N", type=int, default=0, help=_HELP["seed"])
    made.add_argument("--directory", metavar="DIR", type=Path, help=_HELP["directory"])
    made.add_argument("--keep", action="store_true", help="keep what was made, also the logs")
    return made


_HELP = {
    "nodes": "nodes of the sample repository (default %(default)s)",
    "binary": "size of the binary that every 20th node carries (default %(default)s)",
    "commits": "commits that the slave follows (default %(default)s)",
    "seed": "what the sample's content is made from (default %(default)s)",
    "directory": "where to make the temporary directory (default: where the system has them)",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    options = parser().parse_args(arguments)
    show, wish = Show(), Wish()
    with wish.heeded():
        try:
            return _run(options, show, wish)
        except Interrupted as why:
            show.end(f"{why}; nothing was left running", good=False)
            return why.exit_code
        except (DemoError, TarFailoverError, OSError) as why:
            show.end(f"FAILED: {why}", good=False)
            return 1


def _run(options: argparse.Namespace, show: Show, wish: Wish) -> int:
    started = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="tarfailover-demo-", dir=options.directory))
    show.title(f"tarfailover: a demonstration in {directory}")
    try:
        with Servers(directory, wish) as servers:
            try:
                Demo(options, directory, servers, show).run()
            except (DemoError, TarFailoverError):
                show.raw(servers.tails())
                raise
    finally:
        if options.keep:
            show.say(f"kept: {directory}")
        else:
            shutil.rmtree(directory)
    show.end(f"All of it worked, in {time.monotonic() - started:.0f} s.", good=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
