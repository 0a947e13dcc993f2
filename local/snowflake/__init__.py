"""The warehouse on a laptop: Snowflake's wire protocol and semantics over DuckDB by fakesnow."""
