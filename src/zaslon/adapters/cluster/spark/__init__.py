"""Apache Spark: the same cleaning and the same kernel, on rows that no single machine holds."""
