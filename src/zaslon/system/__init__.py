"""The base of everything else: compilation to machine code, files that survive power loss, opening of sources."""
