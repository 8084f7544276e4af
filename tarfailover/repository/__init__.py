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

Binaries in an external blob store are read as all others if it is known where that is:
``repository.open("…/segmentstore", blobs="…/datastore")``.

See `open_repository` and `Repository`, `Revision`, `Node`, `NodeProperty`, `Binary`.
"""

from tarfailover.repository.opened import Checkpoint, Repository, Revision, open_repository
from tarfailover.repository.streams import Binary
from tarfailover.repository.tree import Children, Node, NodeProperty, Properties
from tarfailover.repository.values import PropertyType

open = open_repository  # noqa: A001 - meant to be called as repository.open

__all__ = [
    "Binary",
    "Checkpoint",
    "Children",
    "Node",
    "NodeProperty",
    "Properties",
    "PropertyType",
    "Repository",
    "Revision",
    "open",
    "open_repository",
]
