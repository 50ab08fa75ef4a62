"""Run a command that may write below one folder alone: `readonly.py FOLDER FILE COMMAND...`.

The kernel refuses everything else (Landlock, Linux 5.13), without root and without a container; on
other systems the audit hook is all there is.
"""

import ctypes
import os
import struct
import sys

CREATE, ADD, RESTRICT = 444, 445, 446  # the same number on every architecture
NO_NEW_PRIVILEGES = 38
WRITE_FILE = 1 << 1
TRUNCATE = 1 << 14  # since the third version
CHANGES = WRITE_FILE | sum(1 << bit for bit in range(4, 13))  # remove and make, of every kind


def restrict(*writable: str) -> bool:
    """Forbid this process to write anywhere else; False if the kernel cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(CREATE, None, 0, 1)
    if version < 1:
        return False
    handled = CHANGES | (TRUNCATE if version >= 3 else 0)
    attribute = struct.pack("=Q", handled)
    ruleset = libc.syscall(CREATE, attribute, len(attribute), 0)
    for path in writable:
        parent = os.open(path, os.O_PATH)
        allowed = handled if os.path.isdir(path) else handled & (WRITE_FILE | TRUNCATE)
        libc.syscall(ADD, ruleset, 1, struct.pack("=Qi", allowed, parent), 0)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    return bool(libc.syscall(RESTRICT, ruleset, 0) == 0)


if __name__ == "__main__":
    folder, file, *command = sys.argv[1:]
    open(file, "a").close()
    restrict(folder, file, os.devnull)
    os.execvp(command[0], command)
