"""Pushes a run in a process of its own: huggingface_hub reads its environment when it is imported."""

import sys

from finetune.cli import main

main(["push", *sys.argv[1:]])
