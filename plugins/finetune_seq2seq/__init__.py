"""Summarisation and translation."""
