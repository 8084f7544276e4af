"""What a program can do with a repository that it has opened for writing."""

from __future__ import annotations

import datetime as dt
import io
import random
from decimal import Decimal
from pathlib import Path

import pytest
from copies import sound
from repository_models import record_types, scan
from stores import QuickDisk

from tarfailover import repository
from tarfailover.errors import (
    ConfigError,
    ConflictError,
    ContentError,
    NotFoundError,
    StoreLockedError,
    TarFailoverError,
)
from tarfailover.format.segment import NODE
from tarfailover.repository import (
    Name,
    PropertyType,
    Reference,
    Uri,
    WeakReference,
    WritableRepository,
    editing,
)
from tarfailover.store.blobs import DATA_STORE, BlobStore

pytestmark = pytest.mark.load

UTC = dt.timezone.utc
DAY = dt.datetime(2026, 11, 29, 12, 0, 0, 5000, UTC)
LONG = random.Random(1).randbytes(700_000)


def opened(directory: Path) -> WritableRepository:
    return repository.open_for_writing(directory, create=True, disk=QuickDisk())


def tars(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.tar"))


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(LONG)
    with opened(tmp_path / "store") as store:
        with store.commit() as root:
            page = root.make("content/site/en", "cq:Page")
            page.properties["jcr:title"] = "Welcome"
            page.properties["tags"] = ["new", "front"]
            with (tmp_path / "photo.jpg").open("rb") as photo:
                page.properties["jcr:data"] = photo
            page.make("draft")
        with store.commit() as root:
            del root.node("content/site/en").children["draft"]
        with repository.open(tmp_path / "store") as seen:
            assert seen.head_line.record == store.head
            page = seen.node("/content/site/en")
            assert page.properties["jcr:primaryType"].kind == "NAME"
            assert page.properties["jcr:title"].value == "Welcome"
            assert page.properties["tags"].value == ("new", "front")
            assert page.properties["jcr:data"].binary.read() == LONG
            assert not page.children
            assert seen.node("/content").properties["jcr:primaryType"].value == "cq:Page"
    sound(tmp_path / "store")


VALUES = {
    "STRING": "text",
    "NAME": Name("nt:file"),
    "PATH": repository.Path("/content"),
    "URI": Uri("https://example.org"),
    "REFERENCE": Reference("b9"),
    "WEAKREFERENCE": WeakReference("b9"),
    "LONG": -(2**63),
    "DOUBLE": 1e10,
    "DECIMAL": Decimal("-1.50"),
    "BOOLEAN": True,
    "DATE": DAY,
    "BINARY": b"\0\1",
}


def test_every_type_reads_back_as_it_was_set_before_and_after_the_commit(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        with store.commit() as root:
            for kind, value in VALUES.items():
                root.properties[kind] = value
                root.properties[f"{kind}[]"] = [value, value]
            before = {name: prop.kind for name, prop in root.properties.items()}
            assert root.properties["STRING[]"].value == ("text", "text")
            assert root.properties["BINARY"].binary.open().read() == b"\0\1"
            assert root.properties["BINARY"].binary.length == 2
        with repository.open(tmp_path) as seen:
            assert {name: prop.kind for name, prop in seen.root.properties.items()} == before
            assert before == {name: name for name in before}
            for kind, value in VALUES.items():
                found = seen.root.properties[kind]
                if kind == "BINARY":
                    assert found.binary.read() == value
                else:
                    assert found.value == value and type(found.value) is type(value)
            with store.commit() as root:
                for name in VALUES:
                    root.properties[f"again {name}"] = seen.root.properties[name].value
                    assert root.properties[f"again {name}"].kind == name


def test_a_type_can_be_given_and_is_held_to(tmp_path: Path) -> None:
    with opened(tmp_path) as store, store.commit() as root:
        root.set("a", "7", PropertyType.LONG)
        root.set("b", 7, PropertyType.DOUBLE)
        root.set("c", [7], PropertyType.DECIMAL)
        root.set("d", [], PropertyType.DATE)
        root.set("jcr:primaryType", "odd", PropertyType.STRING)
        root.properties["jcr:mixinTypes"] = ["mix:a", "mix:b"]
        kinds = {name: prop.kind for name, prop in root.properties.items()}
        assert kinds == {
            "a": "LONG",
            "b": "DOUBLE",
            "c": "DECIMAL[]",
            "d": "DATE[]",
            "jcr:primaryType": "STRING",
            "jcr:mixinTypes": "NAME[]",
        }
        root.set("e", root.properties["a"], PropertyType.LONG)
        assert root.properties["e"].value == 7


WRONG = [
    ("a", None, None, "to remove a property, use del"),
    ("a", object(), None, "nothing that a property can hold"),
    ("a", [1, "x"], None, "is no LONG"),
    ("a", ["x", 1], None, "of type LONG, not STRING"),
    ("a", [["x"]], None, "nothing that a property can hold"),
    ("a", 2**63, None, "does not fit a LONG"),
    ("a", "x", PropertyType.DATE, "is no DATE"),
    ("a", "x", PropertyType.BINARY, "no value of type BINARY"),
    ("a", DAY.replace(tzinfo=None), None, "no time zone"),
    ("a", Decimal("NaN"), None, "no finite DECIMAL"),
    ("a", "\ud800", None, "lone surrogate"),
    ("a", io.StringIO("x"), None, "open it in binary mode"),
    ("", 1, None, "is no name"),
    ("a/b", 1, None, "is no name"),
    ("\ud800", 1, None, "lone surrogate"),
    ("jcr:mixinTypes", ["m"] * 1024, None, "more than 1023 mixins"),
]


@pytest.mark.parametrize(("name", "value", "kind", "told"), WRONG)
def test_what_a_property_cannot_hold_is_told_with_its_path(
    tmp_path: Path, name: str, value: object, kind: PropertyType | None, told: str
) -> None:
    with opened(tmp_path) as store, store.commit() as root:
        page = root.make("content/page")
        with pytest.raises(ContentError, match=f"(?s)/content/page: property .*{told}"):
            page.set(name, value, kind)  # type: ignore[arg-type]
        assert not page.properties


def test_children_and_properties_are_mappings(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        with store.commit() as root:
            for name in "abc":
                root.make(name).properties["x"] = name
        with store.commit() as root:
            assert len(root.children) == 3 and set(root.children) == {"a", "b", "c"}
            assert "a" in root.children and "d" not in root.children
            assert 5 not in root.children
            assert root.children["a"].properties["x"].value == "a"
            root.children["b"].properties["y"] = 1
            del root.children["c"]
            root.make("d")
            assert sorted(root.children) == ["a", "b", "d"] and len(root.children) == 3
            for name, node in root.children.items():
                assert node.name == name and node.path == f"/{name}" and node.parent is root
            properties = root.children["b"].properties
            assert dict.fromkeys(properties) == {"x": None, "y": None} and len(properties) == 2
            assert properties.get("z") is None and "x" in properties
            del properties["x"]
            assert "x" not in properties
            for missing in (root.children, properties):
                with pytest.raises(KeyError):
                    missing["no"]
                with pytest.raises(KeyError):
                    del missing["no"]
            with pytest.raises(KeyError):
                properties["x"]
            assert repr(root.children["b"]) == "<WritableNode /b>"
            assert repr(root.children) == "<WritableChildren of />"
            assert repr(properties) == "<WritableProperties y>"
            properties.clear()
            assert not properties
            root.children["a"].make("below")
            root.children.clear()
            assert not root.children and root.properties == {}
        with repository.open(tmp_path) as seen:
            assert not seen.root.children


def test_paths_lead_to_nodes_or_say_what_is_similar(tmp_path: Path) -> None:
    with opened(tmp_path) as store, store.commit() as root:
        root.make("content/site/en")
        assert root.node("/content/site").find("en") is not None
        assert root.find("content/there/not") is None
        assert root.node("") is root
        with pytest.raises(NotFoundError, match="did you mean /content/site"):
            root.node("content/sites")
        with pytest.raises(ConfigError):
            root.make("a\\b")
        with pytest.raises(ContentError, match="is no name"):
            root.make("a\\u002fb")
        root.node("content").remove("site/en")
        assert root.find("content/site/en") is None
        with pytest.raises(NotFoundError):
            root.remove("content/site/en")
        with pytest.raises(ContentError, match="cannot remove itself"):
            root.remove("/")


def interrupted(store: WritableRepository) -> None:
    with store.commit() as root:
        root.make("x").properties["b"] = LONG
        raise RuntimeError("enough")


def test_a_block_that_raises_leaves_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        journal = (tmp_path / "journal.log").read_bytes()
        with pytest.raises(RuntimeError, match="enough"):
            interrupted(store)
        assert (tmp_path / "journal.log").read_bytes() == journal
        with store.commit() as root:
            assert not root.children
    sound(tmp_path)


def test_a_block_without_a_change_writes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        with store.commit() as root:
            root.make("a/b").properties["x"] = 1
        head, size = store.head, tars(tmp_path)
        with store.commit() as root:
            assert [node.properties["x"].value for node in root.node("a").children.values()] == [1]
            root.make("a/b")
        with store.commit() as root:
            root.node("a/b").properties["x"] = 1
        assert store.head == head and tars(tmp_path) == size


def test_after_its_block_a_commit_is_over(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        with store.commit() as root:
            page = root.make("page")
        for use in (
            lambda: page.properties["x"],
            lambda: root.make("y"),
            root.children.clear,
        ):
            with pytest.raises(TarFailoverError, match="the block of this commit has ended"):
                use()
    with pytest.raises(TarFailoverError, match="closed"), store.commit():
        pass
    store.close()


def test_a_node_that_was_removed_cannot_be_used(tmp_path: Path) -> None:
    with opened(tmp_path) as store, store.commit() as root:
        below = root.make("a/b/c")
        root.remove("a")
        with pytest.raises(NotFoundError, match="/a was removed in this commit"):
            below.properties["x"] = 1
        root.make("a/b/c")
        below.properties["x"] = 1
        assert root.node("a/b/c").properties["x"].value == 1


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        with store.commit() as root:
            for number in range(500):
                root.make(f"wide/n{number}/sub").properties["x"] = number
            root.make("other").properties["b"] = LONG
        before = record_types(scan(tmp_path))[NODE]
        size = tars(tmp_path)
        with store.commit() as root:
            root.node("wide/n77/sub").properties["x"] = -1
        assert record_types(scan(tmp_path))[NODE] == before + 5
        assert tars(tmp_path) < size + 4096


def test_nodes_are_copied_within_a_commit_and_from_older_states(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        with store.commit() as root:
            root.make("a/b").properties["x"] = LONG
            root.children["first"] = root.node("a")
            root.node("a/b").properties["x"] = 2
            root.node("a").children["inside"] = root
        with repository.open(tmp_path) as old:
            with store.commit() as root:
                root.remove("a")
            size = tars(tmp_path)
            with store.commit() as root:
                root.children["again"] = old.node("a")
                root.properties["copied"] = old.node("first/b").properties["x"]
                root.properties["read"] = old.node("first/b").properties["x"].value
            assert tars(tmp_path) < size + 4096, "what is there is shared"
    with repository.open(tmp_path) as seen:
        assert seen.node("first/b").properties["x"].binary.read() == LONG
        assert seen.node("again/b").properties["x"].value == 2
        assert seen.node("again/inside/first/b").properties["x"].binary.read() == LONG
        assert seen.root.properties["copied"].binary.read() == LONG
        assert seen.root.properties["read"].binary.read() == LONG
    sound(tmp_path)


def test_nodes_are_copied_from_another_repository(tmp_path: Path) -> None:
    with opened(tmp_path / "one") as store, store.commit() as root:
        page = root.make("page/deep/down", "nt:unstructured")
        for kind, value in VALUES.items():
            page.properties[kind] = [value]
        page.properties["long"] = LONG
        for number in range(100):
            page.make(f"n{number}").properties["text"] = "x" * 20_000
    with (
        repository.open(tmp_path / "one") as one,
        opened(tmp_path / "two") as store,
        store.commit() as root,
    ):
        root.children["page"] = one.node("page")
        root.properties["own"] = one.node("page/deep/down").properties["long"]
    with repository.open(tmp_path / "two") as two, repository.open(tmp_path / "one") as one:
        copy, page = two.node("page/deep/down"), one.node("page/deep/down")
        assert {n: p.kind for n, p in copy.properties.items()} == {
            n: p.kind for n, p in page.properties.items()
        }
        assert copy.properties["long"].binary.read() == LONG
        assert two.root.properties["own"].binary.read() == LONG
        assert len(copy.children) == 100
        assert copy.node("n7").properties["text"].value == "x" * 20_000
        assert copy.state.stable_id == page.state.stable_id
    sound(tmp_path / "two")


def test_large_binaries_go_into_a_blob_store_and_come_from_another_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        blobs = BlobStore(tmp_path / f"{name}-blobs", DATA_STORE, QuickDisk())
        disk = QuickDisk()
        with (
            repository.open_for_writing(
                tmp_path / name, create=True, blobs=blobs, disk=disk
            ) as store,
            store.commit() as root,
        ):
            if name == "one":
                root.make("page").properties["b"] = [LONG, b"short"]
                large, short = root.node("page").properties["b"].values
                assert large.blob_id is not None and short.blob_id is None
                assert large.read() == LONG
                continue
            with repository.open(tmp_path / "one", tmp_path / "one-blobs") as one:
                root.children["page"] = one.node("page")
                root.properties["b"] = one.node("page").properties["b"]
    with repository.open(tmp_path / "two", tmp_path / "two-blobs") as two:
        for node in (two.root, two.node("page")):
            large, short = node.properties["b"].values
            assert large.blob_id and large.read() == LONG and short.read() == b"short"
    with (
        repository.open(tmp_path / "two", tmp_path / "two-blobs") as two,
        opened(tmp_path / "three") as store,
        store.commit() as root,
    ):
        root.children["page"] = two.node("page")
    with repository.open(tmp_path / "three") as three:
        assert three.node("page").properties["b"].values[0].read() == LONG, "in the segments"


def test_a_node_of_another_open_commit_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as store, store.commit() as one, store.commit() as other:
        with pytest.raises(ContentError, match="belongs to another commit"):
            one.children["x"] = other
        with pytest.raises(ContentError, match="is no name"):
            one.children["a/b"] = one


def overtaken(store: WritableRepository) -> None:
    with store.commit() as root:
        for node in root.node("a/top").children.values():
            node.properties["x"] = 8
        with store.commit() as other:
            other.node("a/top/n5").properties["x"] = 9


def test_memory_is_given_back_in_a_block_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With limits of next to nothing all is written, and looked for again, all the time."""
    monkeypatch.setattr(editing, "HELD_EDITS", 5)
    monkeypatch.setattr(editing, "HELD_NODES", 2)
    monkeypatch.setattr(editing, "HELD_BYTES", 500)
    with opened(tmp_path) as store:
        with store.commit() as root:
            top, gone = root.make("a/top"), root.make("gone")
            for number in range(200):
                node = top.make(f"n{number}")
                node.properties["x"] = number
                node.properties["y"] = "z" * (number % 300)
                if number % 3 == 0:
                    del node.properties["x"]
            gone.properties["x"] = 1
            del root.children["gone"]
            with pytest.raises(NotFoundError):
                gone.properties["x"] = 2
            assert len(top.children) == 200
        with store.commit() as root:
            with store.commit() as other:
                other.node("a/top/n1").properties["x"] = -1
                other.make("b")
            for node in root.node("a/top").children.values():
                if node.name != "n1":
                    node.properties["x"] = 7
        with pytest.raises(ConflictError):
            overtaken(store)
    with repository.open(tmp_path) as seen:
        found = {n.name: n.properties["x"].value for n in seen.node("a/top").children.values()}
        assert len(found) == 200 and found.pop("n1") == -1 and found.pop("n5") == 9
        assert set(found.values()) == {7} and "b" in seen.root.children
    sound(tmp_path)


def test_a_deep_tree_and_a_wide_node(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        with store.commit() as root:
            node = root.make("deep")
            for _ in range(1200):
                node = node.make("c")
            node.properties["x"] = 1
            wide = root.make("wide")
            for number in range(10_500):
                wide.make(f"n{number}")
        with store.commit() as root, store.commit() as other:
            other.node("wide").remove("n5000")
            node = other.node("deep")
            for _ in range(1200):
                node = node.children["c"]
            node.properties["y"] = 1
            node = root.node("deep")
            for _ in range(1200):
                node = node.children["c"]
            node.properties["z"] = 1
            root.node("wide/n10499").properties["x"] = 1
    with repository.open(tmp_path) as seen:
        node = seen.node("deep")
        for _ in range(1200):
            node = node.children["c"]
        assert set(node.properties) == {"x", "y", "z"}
        wide = seen.node("wide")
        assert len(wide.children) == 10_499 and "x" in wide.node("n10499").properties


def test_the_lock_is_held_until_the_end(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        with pytest.raises(StoreLockedError):
            opened(tmp_path)
        assert store.directory == tmp_path and store.repairs == ()
    opened(tmp_path).close()


def test_a_store_that_never_got_a_head_gets_one(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    (tmp_path / "journal.log").unlink()
    with opened(tmp_path) as store, store.commit() as root:
        root.make("x")
    with repository.open(tmp_path) as seen:
        assert "x" in seen.root.children
