"""``ls``, ``cat``, ``tree``: nodes, properties and binaries of a repository."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import islice

from tarfailover.cli import commands
from tarfailover.cli.commands import Subparsers
from tarfailover.cli.opening import (
    INSIDE,
    WITH_BLOBS,
    at_argument,
    blobs_argument,
    context_document,
    count,
    limit_argument,
    node_document,
    opened,
    path_argument,
    plain,
    primary_type,
    property_document,
    told_value,
)
from tarfailover.cli.output import Column, Output
from tarfailover.cli.wording import many
from tarfailover.errors import ConfigError
from tarfailover.repository import Binary, Node, NodeProperty, PropertyType, Revision, paths
from tarfailover.repository.walk import Step, ordered, sorted_children

DEPTH = 2
"""Levels of a tree that are shown unless more are asked for."""

_EXAMPLE = "/data/repository/segmentstore"


def declare(group: Subparsers) -> None:
    """Add the commands of this module."""
    _declare_ls(group)
    _declare_cat(group)
    _declare_tree(group)


def _declare_ls(group: Subparsers) -> None:
    parser = commands.add(
        group,
        "ls",
        _ls,
        "List the children of a node",
        description="By name, with primary type and the numbers of children and properties. "
        "Characters that a path cannot hold are shown, and can be given, as escapes: \\\\ and "
        "\\u002f.",
        examples=(
            f"tarfailover ls {_EXAMPLE} /content",
            "tarfailover ls --json --at head~10 DIR /content | jq -r '.children[].path'",
        ),
        raises=INSIDE,
    )
    commands.store_argument(parser)
    path_argument(parser)
    at_argument(parser)
    limit_argument(parser, "children")


def _declare_cat(group: Subparsers) -> None:
    parser = commands.add(
        group,
        "cat",
        _cat,
        "Show the properties of a node, or the value of one of them",
        description="The value of one property is printed as it is, each value of an array on a "
        "line of its own; a binary as its bytes.",
        examples=(
            f"tarfailover cat {_EXAMPLE} /content/page",
            "tarfailover cat DIR /content/image/jcr:content jcr:data > image.png",
            "tarfailover cat --blob-store /data/datastore DIR /content/film jcr:data > film.mp4",
        ),
        raises=WITH_BLOBS,
    )
    commands.store_argument(parser)
    path_argument(parser, "the node (default: /)")
    parser.add_argument(
        "property", metavar="PROPERTY", nargs="?", help="print this property's value alone"
    )
    at_argument(parser)
    blobs_argument(parser)
    parser.add_argument(
        "--index",
        type=commands.number(0),
        metavar="N",
        help="of an array, only the value of this number; the first is 0",
    )


def _declare_tree(group: Subparsers) -> None:
    parser = commands.add(
        group,
        "tree",
        _tree,
        "Show what is below a node",
        description="Nothing below the depth that is shown is read.",
        examples=(
            f"tarfailover tree --depth 3 {_EXAMPLE} /content",
            "tarfailover tree --json --depth 0 --limit 0 DIR | jq -r '.nodes[].path'",
        ),
        raises=INSIDE,
    )
    commands.store_argument(parser)
    path_argument(parser)
    at_argument(parser)
    parser.add_argument(
        "--depth",
        type=commands.number(0),
        default=DEPTH,
        metavar="N",
        help=f"levels below the node, 0 for all (default {DEPTH})",
    )
    limit_argument(parser, "nodes")


def _ls(options: argparse.Namespace, output: Output) -> int:
    with opened(options) as (_, revision):
        node = revision.node(options.path)
        every = sorted_children(node)
        shown = every[: options.limit or None]
        children = (node.below(name, record) for name, record in shown)
        more = len(every) - len(shown)
        if output.as_json:
            document = {**context_document(options, revision, node), "count": len(every)}
            output.listing({**document, "more": more > 0}, "children", map(node_document, children))
            return 0
        if not every:
            output.line(f"{paths.shortened(node.path)} has no children")
            return 0
        columns = [Column("name"), Column("type")]
        columns += [Column(title, right=True) for title in ("children", "properties")]
        output.table(columns, [_row(child) for child in children])
    if more:
        output.line(f"{more:,} more are not shown; --limit 0 shows all {len(every):,}")
    return 0


def _row(node: Node) -> tuple[str, ...]:
    return (
        paths.escape(node.name),
        plain(primary_type(node)),
        count(len(node.children)),
        count(len(node.properties)),
    )


def _cat(options: argparse.Namespace, output: Output) -> int:
    with opened(options) as (_, revision):
        node = revision.node(options.path)
        if options.property is None:
            _cat_node(options, output, revision, node)
        elif output.as_json:
            _cat_document(options, output, revision, node)
        else:
            _print_value(node.find_property(options.property), options.index)
    return 0


def _cat_node(options: argparse.Namespace, output: Output, revision: Revision, node: Node) -> None:
    found = sorted(node.properties.values(), key=lambda each: each.name)
    if output.as_json:
        output.document(
            {
                **context_document(options, revision, node),
                "record": str(node.record),
                "stable_id": node.state.stable_id.hex,
                "children": len(node.children),
                "properties": {each.name: property_document(each) for each in found},
            }
        )
        return
    output.facts(
        [
            ("node", paths.shortened(node.path)),
            ("record", str(node.record)),
            ("children", f"{len(node.children):,}"),
        ]
    )
    if found:
        columns = [Column("property"), Column("type"), Column("value")]
        rows = [(paths.escape(each.name), each.kind, told_value(each)) for each in found]
        output.table(columns, rows)


def _cat_document(
    options: argparse.Namespace, output: Output, revision: Revision, node: Node
) -> None:
    found = node.find_property(options.property)
    _chosen(found, options.index)
    document = property_document(found)
    if options.index is not None:
        document = {**document, "index": options.index, "value": document["values"][options.index]}
        del document["values"]
    context = context_document(options, revision, node)
    output.document({**context, "property": found.name, **document})


def _chosen(found: NodeProperty, index: int | None) -> slice:
    """Which values are wanted; raises ConfigError for one that is not there."""
    total = len(found.stored.values)
    if index is None:
        return slice(None)
    if not found.array or index >= total:
        kind = f"an array of {many(total, 'value')}" if found.array else "no array"
        raise ConfigError(f"--index {index}: property {found.name} is {kind}")
    return slice(index, index + 1)


def _print_value(found: NodeProperty, index: int | None) -> None:
    chosen = _chosen(found, index)
    if found.type != PropertyType.BINARY:
        for text in found.texts[chosen]:
            print(_harmless(text) if sys.stdout.isatty() else text)
        return
    binaries = [each for each in found.values[chosen] if isinstance(each, Binary)]
    if found.array and index is None:
        raise ConfigError(f"property {found.name} has many binaries; choose one with --index")
    if sys.stdout.isatty():
        raise ConfigError("a binary is not printed on a terminal: redirect it to a file")
    for piece in binaries[0].pieces():
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _harmless(text: str) -> str:
    """`text` for a terminal: all but line feeds and tabs that is no character is escaped."""
    return "".join(each if each in "\n\t/\\" else paths.escape(each) for each in text)


def _tree(options: argparse.Namespace, output: Output) -> int:
    with opened(options) as (_, revision):
        node = revision.node(options.path)
        steps = ordered(node, options.depth or None)
        shown = islice(steps, options.limit or None)
        if output.as_json:
            output.listing(
                {**context_document(options, revision, node), "depth": options.depth},
                "nodes",
                ({"depth": step.depth, **node_document(step.node)} for step in shown),
                lambda: {"more": next(steps, None) is not None},
            )
            return 0
        for line in _drawn(shown):
            output.line(line)
        if next(steps, None) is not None:
            output.line(f"more nodes are not shown; --limit {4 * options.limit} shows more of them")
    return 0


def _drawn(steps: Iterator[Step]) -> Iterator[str]:
    """A line for each step, with the branches to the left of it."""
    open_above: list[bool] = []
    for step in steps:
        if not step.depth:
            yield _tree_line(step.node, paths.shortened(step.node.path))
            continue
        del open_above[step.depth - 1 :]
        branches = "".join("│   " if each else "    " for each in open_above)
        corner = "└── " if step.last else "├── "
        yield branches + corner + _tree_line(step.node, paths.escape(step.node.name))
        open_above.append(not step.last)


def _tree_line(node: Node, name: str) -> str:
    kind = primary_type(node)
    children = len(node.children)
    return name + (f"  {plain(kind)}" if kind else "") + (f"  ({children:,})" if children else "")
