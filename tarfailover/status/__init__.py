"""What master and slave say of themselves over HTTP: read only, for monitors and people."""
