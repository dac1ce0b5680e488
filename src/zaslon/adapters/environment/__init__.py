"""An environment of Python with Zaslon and its locked dependencies, as one archive that runs wherever it is unpacked."""
