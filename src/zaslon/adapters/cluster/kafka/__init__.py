"""Apache Kafka: the live log that several processes share, with its topics and its producer."""
