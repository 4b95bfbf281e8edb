"""Masked and causal language modelling."""
