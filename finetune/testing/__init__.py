"""Tiny models and tokenizers, and the laws that every plugin obeys: for our tests and for yours."""

from finetune.testing.laws import check_evaluator, check_finding, check_preprocessor, check_strategy
from finetune.testing.models import tiny_model

__all__ = ["check_evaluator", "check_finding", "check_preprocessor", "check_strategy", "tiny_model"]
