"""What a seccomp filter answers, worked out by hand: classic BPF as far as the filter of rlm.sandbox uses it."""

import struct
from collections.abc import Sequence

STEPS_MOST = 4096  # BPF_MAXINSNS


def verdict(program: bytes, machine: int, number: int, arguments: Sequence[int] = ()) -> int:
    """The filter's answer to one system call; ValueError for a program that the kernel would not take."""
    data = struct.pack("=IIQ6Q", number, machine, 0, *[*arguments, *[0] * 6][:6])
    steps = list(struct.iter_unpack("=HBBI", program))
    if len(steps) > STEPS_MOST:
        raise ValueError(f"{len(steps)} steps")
    at = held = 0
    while at < len(steps):
        code, if_true, if_false, operand = steps[at]
        at += 1
        match code:
            case 0x20:
                (held,) = struct.unpack_from("=I", data, operand)
            case 0x15 | 0x35 | 0x45:
                holds = {0x15: held == operand, 0x35: held >= operand, 0x45: bool(held & operand)}[code]
                at += if_true if holds else if_false
            case 0x06:
                return int(operand)
            case _:
                raise ValueError(f"step {at - 1} has code {code:#x}")
    raise ValueError("it runs past its end")
