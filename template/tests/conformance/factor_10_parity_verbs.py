"""X. Dev/prod parity: bin/dev starts what production starts."""

import asyncio
import shlex
import signal
import sys
from contextlib import suppress

from .catalogue import check, require
from .kit import Kit
from .platform import until
from dev.__main__ import ONE_OFF


@check("X-8", 11, 65, needs=("dev/__main__.py",))
async def development(kit: Kit) -> str:
    """Development starts what the Procfile says, word for word, and first the release."""
    async with kit.deploy(released=False) as deploy:
        copy, noted = kit.copied(deploy.folder / "copy"), deploy.folder / "noted"
        types = [type for type in kit.procfile if type not in ONE_OFF - {"release"}]
        notes = {type: f"echo {type} >> {shlex.quote(str(noted))}" for type in kit.procfile}
        lines = [
            f"{type}: sh -c {shlex.quote(note + '; exec sleep 60' * (type not in ONE_OFF))}\n"
            for type, note in notes.items()
        ]
        (copy / "Procfile").write_text("".join(lines))
        started = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dev"),
            cwd=copy,
            env={**deploy.environment, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(copy)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

        def seen() -> list[str]:
            return noted.read_text().split() if noted.exists() else []

        try:
            await until(
                lambda: {*types} <= {*seen()} or started.returncode is not None, "it starts"
            )
        finally:
            with suppress(ProcessLookupError):
                started.send_signal(signal.SIGINT)
            said, _ = await started.communicate()
        order = seen()
        differ = f"{types} in the Procfile, started were {order}: {said.decode()[-300:]}"
        require(sorted(order) == sorted(types), differ)
        first = order[0] == "release" or "release" not in types
        require(first, f"{order[0]} is started before the release")
    return f"{', '.join(order)}: the Procfile's commands"
