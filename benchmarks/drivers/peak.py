"""The most memory that this process has had; read by drivers in environments that have no drigm."""

import resource
import sys


def peak_bytes():
    """Return bytes.

    Linux keeps the kernel's own figure of `getrusage` across fork and exec: a child of a large process would report
    its parent's peak. The one in /proc begins anew.
    """
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
