"""Emit the C source of ``porttrace._core`` (cffi, API mode) from the declarations in ``csrc/cdef/``.

usage: core_build.py OUTPUT.c CDEF.h ...

Each ``cdef/NAME.h`` mirrors the part of ``csrc/NAME.h``, or of the C library's header of that name, that Python needs.
"""

import sys
from pathlib import Path

from cffi import FFI


def main(output: str, cdefs: list[str]) -> None:
    ffi = FFI()
    for cdef in cdefs:
        ffi.cdef(Path(cdef).read_text(encoding="ascii"))
    includes = "".join(f'#include "{Path(cdef).name}"\n' for cdef in cdefs)
    ffi.set_source("porttrace._core", includes)
    ffi.emit_c_code(output)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
