"""The warehouse on a laptop: Snowflake's wire protocol and semantics over DuckDB (fakesnow behind a hardened launcher)."""
