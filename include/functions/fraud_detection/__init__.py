"""Judges signals of fraud."""
