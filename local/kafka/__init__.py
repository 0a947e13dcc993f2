"""The real Apache Kafka broker on one machine, in KRaft mode, without Docker, Maven or a system Java."""
