"""Exact history per entity: sorted time lists, windows over them, labels as they became known."""
