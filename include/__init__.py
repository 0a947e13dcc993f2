"""What the platform ships to Beam, Snowflake, functions and the dashboards."""
