"""Modules that are loaded when they are first needed: what the guest never uses costs it no start and no memory.

This is the one place that imports late. The guest has 90 ms to its first answer and 22 MB when idle.
"""

import importlib
from typing import Any


def load(name: str) -> Any:
    """Give the module of this dotted name, imported now if it was not yet."""
    return importlib.import_module(name)


def member(reference: str) -> Any:
    """Give `package.module:name`, imported now if it was not yet."""
    module, _, name = reference.partition(":")
    return getattr(load(module), name)
