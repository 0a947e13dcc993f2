"""Stores alerts and tells people."""
