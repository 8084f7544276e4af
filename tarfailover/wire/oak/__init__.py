"""Oak's cold standby protocol as of Oak 1.7.8 and later, sans-IO, both directions.

::

    standby → primary    text lines                             `requests`
    primary → standby    Snappy framing { frames }              `snappy` { `answers` | `frames` }

A primary's end reads lines with `requests.LineParser` and answers with the functions of
`answers`, each answer packed by one `snappy.Packer` a connection. A standby's end writes
`requests.line`, unpacks what comes with one `snappy.Unpacker` and hands the pieces to one
`frames.AnswerParser`. Nothing here reads a clock or holds more than one answer.

The protocol has no greeting, no versions, no request numbers and no way to say "not
there": what is not to be had is not answered. Facts: the standby protocol, section 2.
"""
