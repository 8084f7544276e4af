"""Segment stores on disk: blocking files, no Twisted."""
