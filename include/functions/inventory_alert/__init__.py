"""Judges signals of shelves and sensors."""
