"""What the code stands on: compilation to machine code, files that survive power loss, opening of sources."""
