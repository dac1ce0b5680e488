"""The decision service: HTTP in front of the engine; it decides nothing itself."""
