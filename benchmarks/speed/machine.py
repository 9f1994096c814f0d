"""What the figures were measured on."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
# Other processes that keep more than this share of the cores busy make absolute times useless.
BUSY = 0.25


def describe_machine() -> dict:
    """Processor, memory, software, commit and date, JSON-ready."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "memory_gb": round(_memory_bytes() / 1e9, 1),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "load_before": load(),
    }


def load() -> float | None:
    """Processes that wanted a core, averaged over the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def busy_warning(load_before: float | None, cores: int | None) -> str | None:
    """A sentence to print where other work disturbs the measurement."""
    if load_before is None or not cores or load_before <= BUSY * cores:
        return None
    return (
        f"The machine was busy (load {load_before} on {cores} cores) when the run began: "
        "trust ratios only, and repeat on a quiet machine."
    )


def commit() -> str:
    """The checkout's commit, with a plus sign where files differ from it."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        fields = {key.strip(): value.strip() for key, value in fields.items()}
        flags = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in fields["flags"].split()]
        return f"{fields['model name']} ({', '.join(flags)})"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
