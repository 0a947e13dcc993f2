"""A user's own files as events: a CSV or Parquet file goes through a mapping into a topic. `python -m local.files`."""
