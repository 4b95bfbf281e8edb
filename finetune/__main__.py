"""`python -m finetune` is `finetune`; the package itself takes the current folder out of ``sys.path``."""

from finetune.cli import main

main()
