"""A worker process of the local engine: ``python -m drigm.experiments.sweep FOLDER PROGRAM LOG CORES``.

It ends with its parent.
"""

from __future__ import annotations

import os
import sys
import threading

from drigm.experiments.sweep.worker import attempt
from drigm.runtime import interrupts


def main() -> int:
    """Return 0, or 2 with a sentence on standard error."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    interrupts.leave_in_time()
    folder, program, log, cores = sys.argv[1:]
    try:
        with interrupts.as_interrupts():
            error = attempt(folder, int(program), log, int(cores))
    except KeyboardInterrupt as stop:
        sys.stderr.write(f"{interrupts.message(stop)}\n")
        return interrupts.exit_code()
    if error:
        sys.stderr.write(f"{error}\n")
    return 2 if error else 0


def _end_with_parent() -> None:
    """Standard input is a pipe that only the parent holds open: its end is the parent's, even by SIGKILL."""
    os.read(0, 1)  # not by sys.stdin, whose lock Python needs at its end
    os._exit(1)  # nothing is lost: the checkpoint is where it would be after an interrupt


if __name__ == "__main__":
    sys.exit(main())
