"""Predictions → records → scores, and how far the scores can be trusted."""
