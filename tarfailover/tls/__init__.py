"""TLS for both sides: files, contexts, who the peer is, and words for what went wrong."""
