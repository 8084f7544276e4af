"""The master: serves a segment store that somebody else writes; takes no lock, writes nothing."""
