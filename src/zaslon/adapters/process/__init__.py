"""Adapters to a process of our own on the same machine."""
