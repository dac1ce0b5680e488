"""Adapters for the ports. `embedded` needs no server and is the default; `cluster` needs one."""
