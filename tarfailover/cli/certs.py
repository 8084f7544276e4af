"""``certs``: certificates for a master and its slaves, and the revocation of one."""

from __future__ import annotations

import argparse
import datetime as dt
from pathlib import Path

from tarfailover.cli import commands
from tarfailover.cli.commands import Subparsers
from tarfailover.cli.output import Output
from tarfailover.cli.wording import Document
from tarfailover.errors import StoreIOError
from tarfailover.tls.authority import CA_DAYS, DAYS, Authority, Issued
from tarfailover.tls.files import passphrase


def declare(group: Subparsers) -> None:
    """Add the command of this module, with its two subcommands."""
    parser = group.add_parser(
        "certs",
        help="Make certificates for TLS, or revoke one",
        description="A small certificate authority in a directory. `tarfailover certs init "
        "--help` and `tarfailover certs revoke --help` have examples.",
        epilog=commands.exit_codes((StoreIOError,)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _declare_init(actions)
    _declare_revoke(actions)


def _declare_init(actions: Subparsers) -> None:
    parser = commands.add(
        actions,
        "init",
        _init,
        "Make an authority, and certificates of a master and of slaves",
        description="Writes ca.pem, ca.key, crl.pem, master.pem, master.key, and NAME.pem and "
        "NAME.key for each slave. An authority that is in the directory already is used. No "
        "file is ever overwritten. Keys are readable by their owner alone.",
        examples=(
            "tarfailover certs init certs --master oak1.example.org 10.0.0.1 --slave oak2 oak3",
            "tarfailover certs init certs --slave oak4",
        ),
        raises=(StoreIOError,),
    )
    _directory(parser)
    parser.add_argument(
        "--master",
        metavar="HOST",
        nargs="+",
        default=[],
        help="every name and address by which slaves reach the master",
    )
    parser.add_argument(
        "--slave", metavar="NAME", nargs="+", default=[], help="names of slaves, one each"
    )
    parser.add_argument(
        "--days",
        type=commands.number(1),
        default=DAYS,
        metavar="N",
        help=f"how long they last (default {DAYS}, the authority {CA_DAYS})",
    )


def _declare_revoke(actions: Subparsers) -> None:
    parser = commands.add(
        actions,
        "revoke",
        _revoke,
        "Revoke the certificate of a slave, or of the master",
        description="Writes crl.pem anew. The other side refuses the certificate from its next "
        "connection on, once the list is where its tls_crl points to; connections that are "
        "open go on until they end.",
        examples=("tarfailover certs revoke certs oak3",),
        raises=(StoreIOError,),
    )
    _directory(parser)
    parser.add_argument("name", metavar="NAME", help="the slave, or master")


def _directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, help="where the authority is")
    parser.add_argument(
        "--passphrase-file",
        metavar="FILE",
        default="",
        help="its first line encrypts the keys, and opens that of the authority",
    )


def _authority(options: argparse.Namespace) -> Authority:
    now = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
    return Authority(options.directory, now, passphrase(options.passphrase_file))


def _init(options: argparse.Namespace, output: Output) -> int:
    authority = _authority(options)
    fresh, made = authority.init(options.master, options.slave, min(options.days, CA_DAYS))
    output.document(
        {
            "directory": str(options.directory),
            "ca": str(authority.certificate_path),
            "crl": str(authority.crl_path),
            "new": fresh,
            "certificates": [_issued(each) for each in made],
        }
    )
    told = "new" if fresh else "was there"
    facts = [("authority", f"{authority.certificate_path} ({told})")]
    for each in made:
        facts.append(("certificate", f"{each.certificate} for {', '.join(each.names)}"))
        facts.append(("", f"until {each.ends:%Y-%m-%d}, key in {each.key}"))
    output.facts(facts)
    return 0


def _issued(issued: Issued) -> Document:
    return {
        "names": list(issued.names),
        "certificate": str(issued.certificate),
        "key": str(issued.key),
        "ends": issued.ends.isoformat().replace("+00:00", "Z"),
    }


def _revoke(options: argparse.Namespace, output: Output) -> int:
    authority = _authority(options)
    fresh = authority.revoke(options.name)
    output.document({"name": options.name, "crl": str(authority.crl_path), "new": fresh})
    told = "is revoked" if fresh else "was revoked already"
    output.line(f"{options.name} {told}; the list is {authority.crl_path}")
    return 0
