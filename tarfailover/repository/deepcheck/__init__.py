"""Checks every record that a head reaches: types, bounds, order, hashes, strings, binaries."""

from tarfailover.repository.deepcheck.books import Books, Counts, Damage
from tarfailover.repository.deepcheck.older import whole_heads
from tarfailover.repository.deepcheck.resume import load, save
from tarfailover.repository.deepcheck.walk import DeepCheck

__all__ = ["Books", "Counts", "Damage", "DeepCheck", "load", "save", "whole_heads"]
