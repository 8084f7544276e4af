"""Words with a meaning of their own in settings of TLS."""

SYSTEM = "system"
"""Written for `tls_ca`: the trust roots of the operating system."""
