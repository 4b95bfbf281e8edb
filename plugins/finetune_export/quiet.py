"""The libraries of the runtimes, without their warnings about themselves and without their telemetry."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from io import StringIO

from finetune.kit import at_level, environment, suppress_output

TELEMETRY = {"CI": "true", "NNCF_CI": "1"}
"""Variables with which OpenVINO and NNCF do not report their use to their makers. They read them at import."""
LOGGERS = ("", "nncf", "onnxscript", "onnx_ir", "torch.onnx", "torch.export")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries of the runtimes inside a `with` block, and keep them from reporting their use.

    torch and transformers warn of their own deprecated names, and of versions that they were not tested with. Whether
    the result is right is measured in any case.
    """
    with ExitStack() as stack:
        for name, value in TELEMETRY.items():
            stack.enter_context(environment(name, value))
        stack.enter_context(suppress_output())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(redirect_stdout(StringIO()))  # torch.onnx reports each step there
        for name in LOGGERS:
            stack.enter_context(at_level(name, logging.ERROR))
        yield
