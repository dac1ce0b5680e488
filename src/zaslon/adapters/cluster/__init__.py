"""Adapters that need a server or a heavy library; each is an extra and one file."""
