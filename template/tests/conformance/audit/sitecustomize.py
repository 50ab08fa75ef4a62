"""Notes each attempt of this interpreter to write a file, start a program or look up a host."""

import os
import sys

AUDIT = os.environ.get("CONFORMANCE_AUDIT")
OWN = os.environ.get("TMPDIR", "")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate")
STARTS = ("os.exec", "os.posix_spawn", "os.system", "subprocess.Popen")
ASIDE = (os.devnull, "/dev/tty", AUDIT)


def note(act: str, target: object) -> None:
    here = sys._getframe(2)
    library = os.path.dirname(os.__file__)
    while here.f_back and (
        here.f_code.co_filename.startswith((library, "<"))
        and "site-packages" not in here.f_code.co_filename
    ):
        here = here.f_back
    line = f"{act} {target} {here.f_code.co_filename}:{here.f_lineno}\n"
    to = os.open(str(AUDIT), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(to, line.encode(errors="replace"))
    os.close(to)


def hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open":
        target, _, flags = arguments
        if not isinstance(flags, int) or not flags & WRITES or isinstance(target, int):
            return
        path = os.path.abspath(os.fsdecode(target))  # type: ignore[arg-type]
        if path not in ASIDE and not path.startswith(OWN + os.sep):
            note("write", path)
    elif event in CHANGES:
        path = os.path.abspath(os.fsdecode(arguments[0]))  # type: ignore[arg-type]
        if not path.startswith(OWN + os.sep):
            note(event, path)
    elif event in (*STARTS, "socket.getaddrinfo", "sqlite3.connect"):
        note(event, arguments[0])


if AUDIT:
    sys.addaudithook(hook)
