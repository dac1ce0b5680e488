"""Adapters to a child process on the same machine."""
