"""One YAML a dashboard; madhatter.dashboards reads them as package data."""
