"""Rot is found and mended: bytes of a store that changed on the disk, and segments that are gone.

What the bytes of a tar should be follows from its index: the place, the id and the length of each
entry. A header is the only one that fits id, length, checksum and time; padding is zeros; index,
graph and binary references follow from the segments, and have checksums of their own. Only
the data of a segment follows from nothing: that is fetched from another copy. A header
that is whole says by its checksum what data is wanted, so that no peer can put in anything else.

It is mended where it lies: only the bytes that differ are written, over themselves, then synced
and read back past the system's cache. The other way, a new tar under the next letter as a cleanup
writes it, would cost 256 MiB of writes and of space for one bit, and whoever has the old file
open would go on reading the damage. In place, readers see what is right at once, in the same
file: Oak, which maps tars into memory and does not check what it reads, included. A crash in the
middle leaves some of the bytes mended and the others as damaged as before; no byte that was right
is ever written with another value, and the next look finds the rest. A reader in that moment sees
what was damaged before, damaged or half mended: ours find that by the checksum, Oak's would have
read damage anyway. Names, lengths and order stay what they are, so no index changes.

======================  =============================================================
`repair.damage`         what is found: a damage, what a repair has done
`repair.entries`        one entry: what is wrong with it, what its bytes should be
`repair.trailing`       the trailing entries: the same
`repair.look`           reads one tar from front to back, in steps
`repair.salvage`        the entries of a tar whose index cannot be used
`repair.patch`          writes the bytes that differ
`repair.mending`        puts a segment, or trailing entries, into their place in a tar
`repair.supply`         what comes from another copy; what became of a damage
`repair.tars`           repairs one tar
`repair.missing`        writes a tar with segments that are gone
`repair.heads`          the newest line of the journal, and the manifest
`repair.blobs`          external binaries
`repair.scrub`          the slave's look at all tars, over days
`repair.run`            repairs a store that nobody has open
======================  =============================================================
"""
