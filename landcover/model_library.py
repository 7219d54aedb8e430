"""segmentation-models-pytorch without torch's compiler, which takes longer to import than torch itself."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"


@cache
def model_library() -> Any:
    """The module segmentation_models_pytorch."""
    with without_compiler():
        import segmentation_models_pytorch as smp
    return smp


@contextmanager
def without_compiler() -> Iterator[None]:
    """Let the library be imported, and networks be built, without torch's compiler.

    torchvision and timm ask for it to mark functions that it must not touch, and torch does where
    an encoder is drawn up without memory. Nothing is compiled here, so they meet a stand-in that
    marks nothing; whoever imports the compiler later, as optimizers do, gets the real one. Where it
    is there already, it stays.
    """
    import torch  # noqa: F401 - so that torch itself never meets the stand-in

    if _COMPILER in sys.modules:
        yield
        return
    compiler, helpers = ModuleType(_COMPILER), ModuleType(f"{_COMPILER}.utils")
    vars(compiler).update(disable=_unmarked, utils=helpers)
    vars(helpers).update(is_compile_supported=lambda _device: False)
    modules = {compiler.__name__: compiler, helpers.__name__: helpers}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            sys.modules.pop(name, None)


def _unmarked(function: Any = None, *_: Any, **__: Any) -> Any:
    """A decorator, with or without arguments, that leaves a function as it is."""
    return _unmarked if function is None else function
