"""Finds what to offer to who left a cart."""
