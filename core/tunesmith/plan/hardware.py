"""What a device has: memory, arithmetic, bandwidth. Manufacturers' figures, dense and without sparsity."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tunesmith.errors import ConfigError, did_you_mean

GB = 1e9


@dataclass(frozen=True, slots=True)
class Device:
    """A device.

    Attributes:
        name: as it is printed.
        memory: bytes.
        flops: bf16 operations a second at the peak; fp32 ones on a CPU.
        bandwidth: bytes a second from its memory.
        cpu: True for the processor, whose computations are in fp32 by default.
    """

    name: str
    memory: float
    flops: float
    bandwidth: float
    cpu: bool = False


_CARDS = (
    ("T4", 16, 65e12, 320), ("L4", 24, 121e12, 300), ("A10", 24, 125e12, 600), ("RTX-3090", 24, 71e12, 936),
    ("RTX-4080", 16, 97e12, 717), ("RTX-4090", 24, 165e12, 1008), ("RTX-5090", 32, 209e12, 1792),
    ("V100", 32, 125e12, 900), ("A6000", 48, 155e12, 768), ("L40S", 48, 362e12, 864), ("A100-40GB", 40, 312e12, 1555),
    ("A100", 80, 312e12, 2039), ("H100", 80, 989e12, 3350), ("H200", 141, 989e12, 4800), ("B200", 180, 2250e12, 8000),
    ("MI300X", 192, 1307e12, 5300),
)  # fmt: skip
DEVICES = {name.lower(): Device(name, gb * GB, flops, gbs * GB) for name, gb, flops, gbs in _CARDS}
"""Known cards by lower-case name."""


def find(text: str) -> Device:
    """The device that ``24GB``, ``24``, ``a100`` or ``cpu`` means.

    A memory size alone takes the arithmetic of the slowest known card that has as much.

    Raises:
        ConfigError: neither a known card nor a size.
    """
    word = text.strip().lower().replace(" ", "-").replace("_", "-")
    if word == "cpu":
        return processor()
    word = re.sub(r"^(nvidia|amd|geforce|tesla)-", "", word)
    for known in (word, f"rtx-{word}", word.rpartition("-")[0]):
        if known in DEVICES:
            return DEVICES[known]
    size = re.fullmatch(r"(\d+(?:\.\d+)?)-?(gb|g|gib)?", word)
    if size is None or not float(size[1]):
        raise ConfigError(
            f"--gpu: {text!r} is no device{did_you_mean(word, [*DEVICES, 'cpu'])}",
            fix=f"write its memory, such as 24GB, or one of {', '.join(DEVICES)}, cpu",
        )
    memory = float(size[1]) * GB
    able = [card for card in DEVICES.values() if card.memory >= memory] or list(DEVICES.values())[-1:]
    like = min(able, key=lambda card: (card.memory, card.flops))
    return Device(f"{size[1]} GB (speed of a {like.name} assumed)", memory, like.flops, like.bandwidth)


def processor() -> Device:
    """This machine's processor and main memory; its speed is a rough figure for each core."""
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Device(f"CPU with {cores} cores", float(memory), cores * 60e9, 20 * GB, cpu=True)


def here() -> Device:
    """The device that a run on this machine takes: the first GPU, else the processor."""
    import torch

    if not torch.cuda.is_available():
        return processor()
    found = torch.cuda.get_device_properties(0)
    like = next((card for name, card in DEVICES.items() if name in found.name.lower().replace(" ", "-")), None)
    like = like or find(f"{found.total_memory / GB:.0f}GB")
    return Device(found.name, float(found.total_memory), like.flops, like.bandwidth)
