"""The tree inside a segment store: records, nodes, changes, content digests, sample content."""
