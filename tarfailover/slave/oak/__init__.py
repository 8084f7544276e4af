"""A slave of a real Oak primary: the questions of Oak's standby, many at a time.

`closure` decides what to ask about, `queue` knows which answer belongs to what, and
`protocol` sends and reads.
"""
