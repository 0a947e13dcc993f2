"""One ODCS file a topic, and what `make contract` derives from it."""
