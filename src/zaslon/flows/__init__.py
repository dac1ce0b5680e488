"""One page per story. A flow decides what happens in which order; stages compute."""
