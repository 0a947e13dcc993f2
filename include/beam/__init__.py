"""The pipelines: `hourly` (batch) and what they are made of."""
