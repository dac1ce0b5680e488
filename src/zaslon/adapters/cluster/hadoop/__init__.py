"""Hadoop: its storages through fsspec, and DistCp as a child process."""
