"""Runs arm64 code of macOS on any machine: the engine of the package unicorn over this process' own memory.

Addresses mean the same inside and outside, so that what answers for libSystem works as it does where the code runs by
itself. Parameters are passed as Apple's arm64 does: what stands for "..." is on the stack, whatever registers are left.
"""

from __future__ import annotations

import bisect
import ctypes
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import unicorn
from unicorn import arm64_const as arm

RETURN = bytes.fromhex("c0035fd6")  # ret
ROOM = 1 << 16  # for names of functions of libSystem
STACK = 1 << 20
FILL = 0xA5  # what lies on the stack before a call: nobody may take it for anything
REGISTERS = [getattr(arm, f"UC_ARM64_REG_X{n}") for n in range(8)]
PAGE = 4096
Answer = Callable[..., int]


class Engine:
    """A processor. Calls that come back while it waits for an answer go to another one, `deeper`."""

    def __init__(self, mmap: Callable[[int], int], depth: int = 0) -> None:
        self._mmap, self._depth = mmap, depth
        self.answers: list[tuple[Answer, int]] = []  # and the number of parameters before "..."; -1: it has none
        self._deeper: Engine | None = None
        self._busy = False
        self._spans: list[tuple[int, int]] = []  # of this process' memory that the processor has seen
        self._cpu = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        self._cpu.ctl_set_cpu_model(arm.UC_CPU_ARM64_MAX)
        self._gates = mmap(ROOM)
        ctypes.memmove(self._gates, RETURN * (ROOM // 4), ROOM)
        self._stack = mmap(STACK)
        self._cpu.mem_map_ptr(self._gates, ROOM, unicorn.UC_PROT_ALL, self._gates)
        self._spans.append((self._gates, self._gates + ROOM))
        self._kept: list[Any] = [
            self._cpu.hook_add(unicorn.UC_HOOK_MEM_UNMAPPED, self._show),
            self._cpu.hook_add(unicorn.UC_HOOK_CODE, self._asked, begin=self._gates, end=self._gates + ROOM - 8),
        ]

    def gate(self, answer: Answer, fixed: int = -1) -> int:
        """The address at which this function of libSystem is called."""
        self.answers.append((answer, fixed))
        assert 4 * len(self.answers) < ROOM - 8
        return self._gates + 4 * (len(self.answers) - 1)

    def call(self, address: int, words: list[int], fixed: int = -1) -> int:
        """Call a function of the library, with `fixed` parameters before those that stand for "..."."""
        if self._busy:
            if not self._deeper:
                self._deeper = Engine(self._mmap, self._depth + 1)
            self._deeper._serve(self)
            return self._deeper.call(address, words, fixed)
        in_registers = words if fixed < 0 else words[:fixed]
        stack = self._stack + STACK - 256
        ctypes.memset(stack - (1 << 16), FILL, 1 << 16)
        for n, word in enumerate(words[fixed:] if fixed >= 0 else []):
            ctypes.c_uint64.from_address(stack + 8 * n).value = word & 0xFFFFFFFFFFFFFFFF
        for register, word in zip(REGISTERS, in_registers, strict=False):
            self._cpu.reg_write(register, word & 0xFFFFFFFFFFFFFFFF)
        end = self._gates + ROOM - 4
        self._cpu.reg_write(arm.UC_ARM64_REG_SP, stack)
        self._cpu.reg_write(arm.UC_ARM64_REG_LR, end)
        self._busy = True
        try:
            self._cpu.emu_start(address, end)
        finally:
            self._busy = False
        return int(struct.unpack("<q", struct.pack("<Q", self._cpu.reg_read(arm.UC_ARM64_REG_X0)))[0])

    def forget(self) -> None:
        """What has been seen of the memory but the gates may be gone."""
        for start, end in self._spans:
            if start != self._gates:
                self._cpu.mem_unmap(start, end - start)
        self._spans = [(self._gates, self._gates + ROOM)]
        if self._deeper:
            self._deeper.forget()

    def _serve(self, above: Engine) -> None:
        """Answer at the gates of the one above."""
        if self.answers is not above.answers:
            self.answers = above.answers
            self._kept.append(
                self._cpu.hook_add(unicorn.UC_HOOK_CODE, self._asked, begin=above._gates, end=above._gates + ROOM - 8)
            )
            self._gates_above = above._gates

    def _asked(self, cpu: unicorn.Uc, address: int, size: int, data: object) -> None:
        first = self._gates if self._gates <= address < self._gates + ROOM else self._gates_above
        answer, fixed = self.answers[(address - first) // 4]
        words = [cpu.reg_read(register) for register in REGISTERS]
        if fixed >= 0:
            stack = cpu.reg_read(arm.UC_ARM64_REG_SP)
            words[fixed:] = [ctypes.c_uint64.from_address(stack + 8 * n).value for n in range(8 - fixed)]
        signed = struct.unpack("<8q", struct.pack("<8Q", *words))
        cpu.reg_write(arm.UC_ARM64_REG_X0, answer(*signed) & 0xFFFFFFFFFFFFFFFF)

    def _show(self, cpu: unicorn.Uc, access: int, address: int, size: int, value: int, data: object) -> bool:
        """The processor comes to memory that it has not seen: show it what this process has there, if anything."""
        for line in Path("/proc/self/maps").read_text().splitlines():
            place, rights, *_ = line.split()
            start, end = (int(word, 16) for word in place.split("-"))
            if start <= address < end:
                break
        else:
            return False
        n = bisect.bisect(self._spans, (address, address))
        if n > 0:
            start = max(start, self._spans[n - 1][1])
        if n < len(self._spans):
            end = min(end, self._spans[n][0])
        allowed = (unicorn.UC_PROT_READ if "r" in rights else 0) | (unicorn.UC_PROT_WRITE if "w" in rights else 0)
        allowed |= unicorn.UC_PROT_EXEC if "x" in rights else 0
        cpu.mem_map_ptr(start, end - start, allowed, start)
        self._spans.insert(n, (start, end))
        return True
