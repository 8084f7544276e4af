"""What to ask a master for next, what is complete, and when the head may move.

Sans-IO: nothing here holds data, waits, or reads a clock.

======================  =============================================================
`sync.window`           how many bytes are asked for ahead
`sync.segments`         the closure of one head
`sync.blobs`            the external binaries that this closure mentions
======================  =============================================================
"""

from tarfailover.sync.blobs import BlobTransfer, Slice, Unit
from tarfailover.sync.segments import Transfer
from tarfailover.sync.window import Progress, Window

__all__ = ["BlobTransfer", "Progress", "Slice", "Transfer", "Unit", "Window"]
