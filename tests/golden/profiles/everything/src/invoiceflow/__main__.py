"""Run one process of the Procfile: `python -m PACKAGE TYPE` (factor VIII)."""

import gc
import os
import signal
import sys
from importlib import import_module
from importlib.util import find_spec

import structlog

gc.disable()  # to look for garbage in what is imported takes a fifth of the start

from . import config, logs  # noqa: E402

SERVING = ("web", "worker", "relay", "clock")
ARGUMENTS = ("deadletters",)  # they take more words
PROCESSES = (*SERVING, "release", "console", *ARGUMENTS)


def main() -> int:
    here = [name for name in PROCESSES if find_spec(f"{__package__}.{name}")]
    process = sys.argv[1] if len(sys.argv) > 1 else ""
    logs.start(process)
    if process not in here or (len(sys.argv) != 2 and process not in ARGUMENTS):
        log.error("process.unknown", hint=f"Name one process type: {', '.join(here)}.")
        return 2
    try:
        settings = config.load()
    except config.Invalid as error:
        log.error("settings.invalid", hint="Set these variables: see .env.example.", **error.names)
        return 1
    logs.identify(settings)
    if process in SERVING:
        # Until the process has its own handler there is nothing to finish; an exception could be
        # raised where nobody catches it, and be ignored.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    module = import_module(f".{process}", __package__)
    gc.freeze()
    gc.enable()
    code: int = module.main(settings)
    return code


log = structlog.get_logger()

if __name__ == "__main__":
    sys.exit(main())
