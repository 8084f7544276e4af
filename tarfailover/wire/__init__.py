"""The native dialect, sans-IO: bytes ↔ messages, no sockets, no clock.

::

    slave                          master
      HELLO  ───────────────────►
             ◄───────────────────  WELCOME           versions and features agreed
      HEAD   ───────────────────►                    (waits up to the time asked for)
             ◄───────────────────  HEAD_IS
      FOLLOW ───────────────────►                    (as HEAD, where that was agreed)
             ◄───────────────────  HEAD_IS; if it is new, all that LIST and GET would bring
      LIST   ───────────────────►
             ◄───────────────────  LISTED …, LIST_END
      GET, GET, GET … ──────────►                    (pipelined)
             ◄───────────────────  PART …, END       for each GET, in order; PACKED for
                                                     PART where compression was agreed
      DIGEST ───────────────────►
             ◄───────────────────  PART …, END       digests in place of the segments
      BLOB, BLOB … ─────────────►                    (pipelined; feature ``blobs``)
             ◄───────────────────  PART …, BLOB_END  for each BLOB: a slice of a binary
      PING   ───────────────────►
             ◄───────────────────  PONG
             ◄───────────────────  ERROR             instead of any answer

A frame is the 4-byte big-endian length of `Int32StringReceiver`, then one type byte, a
4-byte request number chosen by the slave, and the payload. All integers are
big-endian, all text is UTF-8. An answer carries the number of its request. A frame
from a slave is shorter than 16 MiB, so its first byte on the wire is ``00``; the
dialect of Oak begins with another byte.

======================  =============================================================
`wire.limits`           the versions and every limit
`wire.fields`           numbers, texts, ids, cursors: written, read, checked both ways
`wire.requests`         what a slave asks, one class a message
`wire.answers`          what a master answers, one class a message; the error codes
`wire.messages`         frames; what a protocol imports
`wire.negotiate`        version and features
`wire.stream`           the segments inside the PARTs
`wire.compression`      the same inside PACKEDs
`wire.digests`          the digests that answer a DIGEST
======================  =============================================================

A peer that does not keep to this is answered, as long as it can read an answer, with

===========================================  ============  ==========================
what came to the master                      ERROR         then
===========================================  ============  ==========================
no common version in HELLO                   VERSION       the connection ends
a type that is not known                     UNKNOWN_TYPE  it goes on
a frame longer than `MAX_REQUEST_FRAME`      TOO_LARGE     the connection ends
anything else that is not exactly a message  PROTOCOL      the connection ends
GET, DIGEST of a segment that is not there   SEGMENT_GONE  the stream goes on: it is a
                                                           refusal in the id's place
BLOB of a binary that is not there           BLOB_GONE     it goes on
BLOB of a binary where there are none        NO_BLOBS      it goes on
===========================================  ============  ==========================

A slave that meets any of these on its side raises ProtocolError and ends the connection.
"""
