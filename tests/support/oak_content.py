"""What the fixtures written by real Oak hold, as `shared/fixtures/README.md` tells it."""

from __future__ import annotations

from oak import Walked

FIXTURES = {
    "fresh": Walked(
        "134ab5c4-9620-4f83-a475-c546d7194527.00000016",
        990,
        5789,
        1902260,
        "26eb72c4e0695faf26574c3e1d0192b74cd9b89bb4d4ccd7161921f297ba1cb3",
    ),
    "compacted": Walked(
        "7e1f37df-72e0-4fac-adc1-75b95bc38cd2.00000016",
        794,
        4161,
        832944,
        "8bdd227ef18bccd21f9cf4300d24fab3f8bbbb0da9b3a884f75079918fd0309a",
    ),
    "killed": Walked(
        "9d7bde02-c49d-4975-a8b0-a8b4ebb003db.000001d5",
        1582,
        6259,
        1014990,
        "498035742158f7ea10111ac9372062eea5974b650460abe4a95f646ea3e20888",
    ),
}
