"""A message where a memory-mapped file is truncated while it is read; the kernel would silently kill the process."""

from __future__ import annotations

import ctypes
import signal
from functools import cache
from typing import Any

from clorg_scale.arrays.mapped import mapped_array

__all__ = ["explain_lost_pages"]

SENTENCE = (
    b"error: A memory-mapped file of embeddings was shortened, or became unreadable, during the computation; run the "
    b"same command again once the file is complete.\n"
)


def explain_lost_pages(array: Any) -> None:
    """Exit with a message and code 2 when a page of a memory-mapped array can no longer be read.

    The failing read is repeated as soon as the handler returns, so a handler in Python, which only runs later, would
    never be called; this one is compiled.
    """
    if hasattr(signal, "SIGBUS") and mapped_array(array) is not None:
        _install()


@cache
def _install() -> Any:
    """Install the handler, made by LLVM: of `numba.cfunc` it would take every command half a second."""
    import llvmlite.binding as llvm

    buffer, library = ctypes.create_string_buffer(SENTENCE), ctypes.CDLL(None)
    install = library.signal
    install.argtypes, install.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(str(_handler(library, ctypes.addressof(buffer))))
    engine = llvm.create_mcjit_compiler(module, llvm.Target.from_default_triple().create_target_machine())
    engine.finalize_object()
    install(signal.SIGBUS, engine.get_function_address("say"))
    return engine, buffer  # kept alive by the cache


def _handler(library: Any, sentence: int) -> Any:
    """LLVM's module with a function `say(signal)`, which writes what stands at an address to stderr and exits."""
    from llvmlite import ir

    small, large, nothing = ir.IntType(32), ir.IntType(64), ir.VoidType()
    module = ir.Module("lost_pages")
    builder = ir.IRBuilder(ir.Function(module, ir.FunctionType(nothing, [small]), "say").append_basic_block())

    def call(name: str, result: Any, *arguments: Any) -> None:
        kind = ir.FunctionType(result, [argument.type for argument in arguments]).as_pointer()
        address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        builder.call(builder.inttoptr(large(address), kind), arguments)

    call("write", large, small(2), large(sentence), large(len(SENTENCE)))
    call("_exit", nothing, small(2))
    builder.ret_void()
    return module
