"""What a sample repository holds: a showcase of everything the format can say, and nodes.

All of it follows from a `random.Random` that the caller seeds.
"""

from __future__ import annotations

import datetime as dt
import functools
import random
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal

from tarfailover.repository.builder import NodeBuilder
from tarfailover.repository.nodes import MIXIN_TYPES, PRIMARY_TYPE
from tarfailover.repository.record_writer import Readable
from tarfailover.repository.values import ExternalBlob, Property, PropertyType, Scalar, StoredBlob

StoreBlob = Callable[[bytes | Readable], StoredBlob | ExternalBlob]

UNSTRUCTURED = Property.name("oak:Unstructured")

WIDE = "Ünhäppily [named] wide:node 'with' %2F 😀"
"""The name of the node with hundreds of children."""
WIDE_CHILDREN = 700
COLLIDING_PAIRS = 6
"""Names of this many pairs ``Aa`` or ``BB``, which Java hashes alike: 64 with one hash."""
CHAIN_LENGTH = 100
LARGE_EVERY = 20
"""Every so manieth node carries a large binary."""

SAMPLE_DAY = dt.datetime(2024, 10, 24, tzinfo=dt.timezone.utc)

_ALPHABET = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzABCDEFGÄÖÜßéèñøλЖ中文字𝄞😀"
_WORDS = 1024
_STRING_SIZES = (0, 1, 127, 128, 16511, 16512, 270_000)
_BINARY_SIZES = (0, 1, 127, 128, 16511, 16512, 262144, 262145, 600_000)
_DOUBLES = (0.0, -0.0, 1.0, 1e-5, 1e7, 1.7976931348623157e308, 5e-324, float("inf"), float("nan"))
_LONGS = (0, -1, 2**63 - 1, -(2**63))
_DECIMALS = ("0", "-1.50", "1E+3", "12345678901234567890.123456789", "1E-10")


class RandomBytes:
    """A binary of `size` random bytes that is made as it is read."""

    def __init__(self, rng: random.Random, size: int) -> None:
        self._rng = rng
        self._left = size

    def read(self, size: int) -> bytes:
        """At most `size` bytes, none only at the end."""
        piece = self._rng.randbytes(min(size, self._left))
        self._left -= len(piece)
        return piece


@functools.lru_cache(maxsize=1)
def _vocabulary() -> tuple[str, ...]:
    """Words of two to nine letters, the same in every sample."""
    rng = random.Random("vocabulary")  # noqa: S311 - not for secrets
    return tuple("".join(rng.choices(_ALPHABET, k=2 + rng.getrandbits(3))) for _ in range(_WORDS))


def words(rng: random.Random, length: int) -> str:
    """`length` characters of text, some of them of two, three and four bytes."""
    return " ".join(rng.choices(_vocabulary(), k=length // 3 + 1))[:length]


def text_of(rng: random.Random, size: int) -> str:
    """Text of exactly `size` bytes in UTF-8."""
    cut = words(rng, size).encode()[:size].decode("utf-8", "ignore")
    return cut + "." * (size - len(cut.encode()))


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(bytes=rng.randbytes(16), version=4))


def _date(rng: random.Random) -> dt.datetime:
    moment = SAMPLE_DAY - dt.timedelta(milliseconds=rng.getrandbits(39))
    hours = dt.timezone(dt.timedelta(minutes=30 * (rng.getrandbits(5) - 12)))
    return moment.astimezone(hours)


def _value(rng: random.Random, kind: PropertyType) -> Property:
    """One random value of `kind`."""
    makers: dict[PropertyType, Callable[[], Scalar]] = {
        PropertyType.STRING: lambda: words(rng, 5 + rng.getrandbits(5)),
        PropertyType.BINARY: lambda: rng.randbytes(rng.getrandbits(8)),
        PropertyType.LONG: lambda: rng.getrandbits(64) - 2**63,
        PropertyType.DOUBLE: lambda: rng.random() * 10.0 ** (rng.getrandbits(5) - 16),
        PropertyType.DATE: lambda: _date(rng),
        PropertyType.BOOLEAN: lambda: bool(rng.getrandbits(1)),
        PropertyType.NAME: lambda: f"sample:name{rng.getrandbits(6)}",
        PropertyType.PATH: lambda: f"/content/sample/{rng.getrandbits(12):03x}",
        PropertyType.REFERENCE: lambda: _uuid(rng),
        PropertyType.WEAKREFERENCE: lambda: _uuid(rng),
        PropertyType.URI: lambda: f"http://example.org/{rng.getrandbits(16):04x}?q=%20",
        PropertyType.DECIMAL: lambda: Decimal(rng.getrandbits(60)).scaleb(-(rng.getrandbits(4))),
    }
    return Property.of(makers[kind](), kind)


def _array(rng: random.Random, kind: PropertyType, count: int) -> Property:
    return Property(kind, tuple(_value(rng, kind).values[0] for _ in range(count)), True)


def fill(node: NodeBuilder, rng: random.Random, number: int, blob: StoreBlob, large: int) -> None:
    """Give the node of this `number` its properties.

    Every twentieth carries a binary of `large` bytes (none if 0), some a medium or small
    one; every type appears single and as an array among twelve neighbours.
    """
    node.set(PRIMARY_TYPE, UNSTRUCTURED if number % 3 else Property.name("nt:unstructured"))
    if number % 5 == 0:
        node.set(MIXIN_TYPES, Property.names(("mix:title", "mix:lastModified")))
    node.set("title", Property.of(words(rng, 5 + rng.getrandbits(5))))
    node.set("number", Property.of(number))
    node.set("modified", Property.of(_date(rng)))
    single = PropertyType(1 + number % 12)
    several = PropertyType(1 + (number // 3) % 12)
    node.set(f"a {single.name.lower()}", _value(rng, single))
    node.set(f"some {several.name.lower()}s", _array(rng, several, rng.getrandbits(2)))
    if number % 10 == 0:
        node.set("text", Property.of(text_of(rng, 200 + rng.getrandbits(11))))
    if number % 33 == 0:
        node.set("preview", Property.of(blob(rng.randbytes(2000 + rng.getrandbits(13)))))
    if number % 97 == 0:
        node.set("story", Property.of(text_of(rng, 20_000 + rng.getrandbits(14))))
    if large and number % LARGE_EVERY == 0:
        node.set("data", Property.of(blob(RandomBytes(rng, large))))


# The showcase


def showcase(top: NodeBuilder, rng: random.Random, blob: StoreBlob) -> None:
    """Add the nodes that show every form of value, map and template, about a thousand."""
    top.set(PRIMARY_TYPE, UNSTRUCTURED)
    _types(top.child("types"), rng)
    _strings(top.child("strings"), rng)
    _binaries(top.child("binaries"), rng, blob)
    _templates(top.child("templates"))
    chain = top.child("chain")
    for depth in range(CHAIN_LENGTH):
        chain = chain.child(f"link{depth}").set("depth", Property.of(depth))
    wide = top.child(WIDE).set(PRIMARY_TYPE, UNSTRUCTURED)
    for number, name in enumerate(wide_names()):
        wide.child(name).set("x", Property.of(number))


def wide_names() -> Iterator[str]:
    """The children of the wide node: odd names, and 64 of one and the same hash."""
    for bits in range(1 << COLLIDING_PAIRS):
        yield "".join("BB" if bits >> place & 1 else "Aa" for place in range(COLLIDING_PAIRS))
    odd = ("w{}", "child {}", "%41{}", "é{}", "😀{}", "\uffee{}", "jcr:w{}", "{}'\"")
    for number in range(WIDE_CHILDREN):
        yield odd[number % len(odd)].format(number)


def _types(top: NodeBuilder, rng: random.Random) -> None:
    single, arrays, empty = top.child("single"), top.child("arrays"), top.child("empty arrays")
    for kind in PropertyType:
        name = kind.name.lower()
        single.set(name, _value(rng, kind))
        arrays.set(name, _array(rng, kind, 3))
        empty.set(name, _array(rng, kind, 0))
    extremes = top.child("extremes")
    extremes.set("doubles", Property.of(_DOUBLES))
    extremes.set("longs", Property.of(_LONGS))
    extremes.set("decimals", Property.of([Decimal(each) for each in _DECIMALS]))
    extremes.set("many", Property.of(list(range(600))))


def _strings(top: NodeBuilder, rng: random.Random) -> None:
    for size in _STRING_SIZES:
        top.child(f"{size} bytes").set("value", Property.of(text_of(rng, size)))
    everywhere = top.child("mixed")
    everywhere.set("values", Property.of([text_of(rng, size) for size in (0, 127, 200, 40_000)]))
    everywhere.set("🜁 é ß", Property.of("𝄞" * 50))


def _binaries(top: NodeBuilder, rng: random.Random, blob: StoreBlob) -> None:
    for size in _BINARY_SIZES:
        stored = blob(RandomBytes(rng, size))
        top.child(f"{size} bytes").set("value", Property.of(stored))
    several = [blob(rng.randbytes(size)) for size in (0, 30, 20_000)]
    top.child("several").set("values", Property.of(several))


def _templates(top: NodeBuilder) -> None:
    """Types where they are ordinary properties, and properties whose hashes collide."""
    plain = top.child("types as strings")
    plain.set(PRIMARY_TYPE, Property.of("a string"))
    plain.set(MIXIN_TYPES, Property.of(["strings"]))
    top.child("no mixins").set(MIXIN_TYPES, Property.names(()))
    colliding = top.child("colliding properties")
    for number, name in enumerate(("BBBB", "AaAa", "AaBB", "BBAa", "jcr:content", "é😀")):
        colliding.set(name, Property.of(number))
    many = top.child("many properties")
    for number in range(300):
        many.set(f"property {number}", Property.of(number))
    top.child("bare")
    top.child("only child").child("it").set(PRIMARY_TYPE, UNSTRUCTURED)
