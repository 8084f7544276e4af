"""The native dialect, sans-IO: bytes ↔ messages, no sockets, no clock.

::

    slave                          master
      HELLO  ───────────────────►
             ◄───────────────────  WELCOME           versions and features agreed
      HEAD   ───────────────────►                    (waits up to the time asked for)
             ◄───────────────────  HEAD_IS
      LIST   ───────────────────►
             ◄───────────────────  LISTED …, LIST_END
      GET, GET, GET … ──────────►                    (pipelined)
             ◄───────────────────  PART …, END       for each GET, in order
      PING   ───────────────────►
             ◄───────────────────  PONG
             ◄───────────────────  ERROR             instead of any answer

A frame is the 4-byte big-endian length of `Int32StringReceiver`, then one type byte, a
4-byte request number chosen by the slave, and the payload. All integers are
big-endian, all text is UTF-8. An answer carries the number of its request. A frame
from a slave is shorter than 16 MiB, so its first byte on the wire is ``00``; the
dialect of Oak begins with another byte.
"""
