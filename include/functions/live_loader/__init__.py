"""Loads the minutes that the streaming job writes into the live tables."""
