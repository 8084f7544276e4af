"""The tree inside a segment store: nodes, properties, binaries, heads and checkpoints.

::

    from tarfailover import repository

    with repository.open("/data/repository/segmentstore") as opened:
        page = opened.node("/content/site/en")
        print(page.properties["jcr:title"].value, len(page.children))
        for name, child in page.children.items():
            print(name, child.properties["jcr:primaryType"].value)
        old = opened.at("2026-11-22T19:00:00Z").node("/content/site/en")
        with page.node("image").properties["jcr:data"].binary.open() as stream:
            stream.seek(-4, 2)
            print(stream.read())

    with repository.open_for_writing("/data/repository/segmentstore") as store:
        with store.commit() as root:
            page = root.make("content/site/en", "cq:Page")
            page.properties["jcr:title"] = "Welcome"
            page.properties["tags"] = ["new", "front"]
            with open("photo.jpg", "rb") as photo:
                page.properties["jcr:data"] = photo
            page.children.pop("draft", None)

Binaries in an external blob store are read as all others if it is known where that is:
``repository.open("…/segmentstore", blobs="…/datastore")``.

See `open_repository` and `Repository`, `Revision`, `Node`, `NodeProperty`, `Binary`;
`open_for_writing` and `WritableRepository`, `WritableNode`, and `storing` for the types.
"""

from tarfailover.repository.editing import WritableChildren, WritableNode, WritableProperties
from tarfailover.repository.opened import Checkpoint, Repository, Revision, open_repository
from tarfailover.repository.streams import Binary
from tarfailover.repository.tree import Children, Node, NodeProperty, Properties
from tarfailover.repository.values import (
    Name,
    Path,
    PropertyType,
    Reference,
    Uri,
    WeakReference,
)
from tarfailover.repository.writable import WritableRepository, open_for_writing

open = open_repository  # noqa: A001 - meant to be called as repository.open

__all__ = [
    "Binary",
    "Checkpoint",
    "Children",
    "Name",
    "Node",
    "NodeProperty",
    "Path",
    "Properties",
    "PropertyType",
    "Reference",
    "Repository",
    "Revision",
    "Uri",
    "WeakReference",
    "WritableChildren",
    "WritableNode",
    "WritableProperties",
    "WritableRepository",
    "open",
    "open_for_writing",
    "open_repository",
]
