"""Watches the live half, and judges signals about the platform."""
