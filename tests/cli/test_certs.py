"""``certs``: what it writes, with which rights, and what it never does."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from cryptography import x509

from tarfailover.cli import main
from tarfailover.tls import files

INIT = ("--master", "oak.example.org", "10.0.0.1", "--slave", "oak2", "oak3")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["certs", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_two_commands_make_all_and_revoke_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "certs"
    code, out, err = run(capsys, "init", "--json", folder, *INIT)
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["new"] is True
    assert [each["names"] for each in document["certificates"]] == [
        ["oak.example.org", "10.0.0.1"],
        ["oak2"],
        ["oak3"],
    ]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["ca.pem", "ca.key", "crl.pem"]
        + [f"{stem}.{end}" for stem in ("master", "oak2", "oak3") for end in ("pem", "key")]
    )
    for key in folder.glob("*.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    (master,) = files.certificates(str(folder / "master.pem"))
    assert files.names(master) == ("oak.example.org", "10.0.0.1")
    usage = master.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]
    assert (master.not_valid_after_utc - master.not_valid_before_utc).days == 730

    code, out, err = run(capsys, "revoke", folder, "oak3")
    assert (code, err) == (0, "")
    assert out == f"oak3 is revoked; the list is {folder / 'crl.pem'}\n"
    (crl,) = files.revocations(str(folder / "crl.pem"))
    (oak3,) = files.certificates(str(folder / "oak3.pem"))
    assert [each.serial_number for each in crl] == [oak3.serial_number]
    (ca,) = files.certificates(str(folder / "ca.pem"))
    assert crl.is_signature_valid(ca.public_key())  # type: ignore[arg-type]
    code, out, _ = run(capsys, "revoke", "--json", folder, "oak3")
    assert (code, json.loads(out)["new"]) == (0, False)
    assert len(list(files.revocations(str(folder / "crl.pem"))[0])) == 1


def test_more_slaves_are_from_the_same_authority(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "init", tmp_path, *INIT)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, out, _ = run(capsys, "init", tmp_path, "--slave", "oak4", "--days", "10")
    assert code == 0
    assert "(was there)" in out
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    (ca,) = files.certificates(str(tmp_path / "ca.pem"))
    (oak4,) = files.certificates(str(tmp_path / "oak4.pem"))
    oak4.verify_directly_issued_by(ca)


def test_nothing_is_overwritten_and_nothing_half_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "init", tmp_path, *INIT)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, _, err = run(capsys, "init", tmp_path, "--slave", "oak9", "oak2")
    assert code == 2
    assert f"{tmp_path / 'oak2.pem'} is there already, and nothing is ever overwritten" in err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "nothing to make; name a --master HOST or a --slave NAME"),
        (("--slave", "../oak"), "'../oak' is no name for a slave"),
        (("--slave", "ca"), "'ca' is no name for a slave"),
        (("--slave", "a", "a"), "a slave is named twice"),
        (("--master", "no host"), "'no host' is neither a host name nor an address"),
    ],
)
def test_bad_names_are_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    folder = tmp_path / "certs"
    code, _, err = run(capsys, "init", folder, *arguments)
    assert code == 2
    assert told in err
    assert not folder.exists()


def test_keys_can_be_encrypted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a secret of tests\n")
    folder = tmp_path / "certs"
    assert run(capsys, "init", folder, *INIT, "--passphrase-file", secret)[0] == 0
    assert all(b"ENCRYPTED" in key.read_bytes() for key in folder.glob("*.key"))
    code, _, err = run(capsys, "revoke", folder, "oak2")
    assert code == 2
    assert "is --passphrase-file right?" in err
    assert run(capsys, "revoke", folder, "oak2", "--passphrase-file", secret)[0] == 0


@pytest.mark.parametrize("name", ["oak9", "../x", "ca"])
def test_only_what_was_made_can_be_revoked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    run(capsys, "init", tmp_path, *INIT)
    before = (tmp_path / "crl.pem").read_bytes()
    code, _, err = run(capsys, "revoke", tmp_path, name)
    assert code == 2
    assert name in err
    assert (tmp_path / "crl.pem").read_bytes() == before
