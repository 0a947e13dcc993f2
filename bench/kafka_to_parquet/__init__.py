"""An hour of events from Kafka to Parquet: the platform's pipeline, plain Python and Spark, each as a module to run.

Each reads all offsets of one topic, parses and checks every event, writes accepted events and rejected ones (with
reason and payload) as zstd Parquet, and prints one JSON line for each pass: {"name", "wall_s", "cpu_s"}.
"""
