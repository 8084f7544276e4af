"""What is agreed on, and what each side refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarfailover.errors import ProtocolError
from tarfailover.wire import negotiate
from tarfailover.wire.messages import LOWEST_VERSION, VERSION, Hello, Welcome
from tarfailover.wire.negotiate import VersionError, check_welcome, choose_features, choose_version

versions = st.integers(0, 20)
names = st.lists(st.sampled_from(["zstd", "blobs", "crc32c", "trailers"]), max_size=6)


def hello(lowest: int, highest: int, features: tuple[str, ...] = ()) -> Hello:
    return Hello("a slave", features, lowest, highest)


def welcome(version: int, features: tuple[str, ...] = ()) -> Welcome:
    return Welcome(version, features, "", 0, "a master")


@pytest.fixture
def speaks_3_to_5(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(negotiate, "LOWEST_VERSION", 3)
    monkeypatch.setattr(negotiate, "VERSION", 5)


class TestVersion:
    def test_of_two_equals_is_the_newest(self) -> None:
        assert choose_version(Hello("a slave")) == VERSION

    def test_of_a_newer_slave_that_still_speaks_ours_is_ours(self) -> None:
        assert choose_version(hello(LOWEST_VERSION, 0xFFFF)) == VERSION

    def test_of_a_slave_that_is_too_new_names_both_ranges_and_the_remedy(self) -> None:
        assert (LOWEST_VERSION, VERSION) == (1, 1)
        with pytest.raises(VersionError) as caught:
            choose_version(hello(2, 3))
        assert str(caught.value) == (
            "no version of the protocol in common: the slave speaks versions 2 to 3,"
            " the master version 1; update the master"
        )

    @pytest.mark.usefixtures("speaks_3_to_5")
    def test_of_a_slave_that_is_too_old_says_to_update_the_slave(self) -> None:
        with pytest.raises(VersionError) as caught:
            choose_version(hello(2, 2))
        assert str(caught.value) == (
            "no version of the protocol in common: the slave speaks version 2,"
            " the master versions 3 to 5; update the slave"
        )

    @pytest.mark.usefixtures("speaks_3_to_5")
    @pytest.mark.parametrize(
        ("lowest", "highest", "chosen"),
        [(1, 3, 3), (1, 4, 4), (3, 3, 3), (4, 9, 5), (5, 5, 5), (1, 9, 5)],
    )
    def test_is_the_highest_of_both(self, lowest: int, highest: int, chosen: int) -> None:
        assert choose_version(hello(lowest, highest)) == chosen

    @given(ours=st.tuples(versions, versions).map(sorted), theirs=st.tuples(versions, versions))
    def test_is_in_both_ranges_or_there_is_none(
        self, ours: list[int], theirs: tuple[int, int]
    ) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(negotiate, "LOWEST_VERSION", ours[0])
            patch.setattr(negotiate, "VERSION", ours[1])
            both = set(range(ours[0], ours[1] + 1)) & set(range(theirs[0], theirs[1] + 1))
            if both:
                assert choose_version(hello(*theirs)) == max(both)
            else:
                with pytest.raises(VersionError):
                    choose_version(hello(*theirs))


class TestFeatures:
    def test_are_those_of_both_in_the_order_of_the_master(self) -> None:
        assert choose_features(("a", "b", "c"), ("c", "x", "a")) == ("c", "a")

    def test_of_strangers_are_none(self) -> None:
        assert choose_features(("a", "b"), ()) == choose_features((), ("a",)) == ()

    @given(names, names)
    def test_are_the_common_ones_once_each(self, offered: list[str], supported: list[str]) -> None:
        chosen = choose_features(offered, supported)
        assert set(chosen) == set(offered) & set(supported)
        assert list(chosen) == sorted(set(chosen), key=supported.index)

    @given(st.tuples(versions, versions).map(sorted), names, names)
    def test_a_slave_takes_whatever_a_master_chooses(
        self, offered: list[int], wanted: list[str], supported: list[str]
    ) -> None:
        said = hello(offered[0], offered[1], tuple(wanted))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(negotiate, "LOWEST_VERSION", 0)
            patch.setattr(negotiate, "VERSION", 20)
            check_welcome(said, welcome(choose_version(said), choose_features(wanted, supported)))


class TestWelcome:
    @pytest.mark.parametrize("version", [2, 3, 4])
    def test_a_version_out_of_those_offered_is_taken(self, version: int) -> None:
        check_welcome(hello(2, 4), welcome(version))

    @pytest.mark.parametrize("version", [0, 1, 5])
    def test_another_version_is_refused(self, version: int) -> None:
        told = f"chose version {version} of the protocol, but was offered versions 2 to 4; update"
        with pytest.raises(ProtocolError, match=told):
            check_welcome(hello(2, 4), welcome(version))

    def test_features_out_of_those_offered_are_taken(self) -> None:
        check_welcome(hello(1, 1, ("a", "b", "c")), welcome(1, ("c", "a")))

    def test_a_feature_that_was_not_offered_is_refused(self) -> None:
        with pytest.raises(ProtocolError, match=r"not offered: \['d', ''\]; update"):
            check_welcome(hello(1, 1, ("a", "b")), welcome(1, ("d", "a", "")))

    def test_a_feature_chosen_twice_is_refused(self) -> None:
        with pytest.raises(ProtocolError, match="chose a feature twice"):
            check_welcome(hello(1, 1, ("a", "b")), welcome(1, ("a", "a")))
