"""The slave: the one writer of its directory, which it keeps equal to a master's store."""
