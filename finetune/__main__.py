"""`python -m finetune` is `finetune`."""

import os
import sys

if sys.path and sys.path[0] in {"", os.getcwd()} and not sys.flags.safe_path:
    del sys.path[0]  # Python puts the current folder first, and the files of a stranger can lie there

from finetune.cli import main

main()
