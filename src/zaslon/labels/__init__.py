"""Labels: how verdicts come back, and when they count."""
