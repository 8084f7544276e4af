"""Who may reach, and connect to, a master: listeners, ranges of addresses, limits, the token."""
