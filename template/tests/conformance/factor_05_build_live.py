"""V. Build, release, run: what was built runs as it is, under the name of its release."""

from pathlib import Path

from .catalogue import check, require
from .kit import Kit, digests


def digest(folder: Path) -> dict[str, str]:
    return digests(folder, [path for path in sorted(folder.rglob("*")) if path.is_file()])


@check("V-1", 20, 29, 37, 38, 39)
async def releases(kit: Kit) -> str:
    """A run changes nothing that was built, and says its release; a former release runs again."""
    async with kit.deploy() as deploy:
        deploy.root = kit.copied(deploy.folder / "copy")
        home = {"PYTHONPATH": str(kit.sources(deploy.root))}
        before = digest(deploy.root)
        releases = [f"{kit.package}-{name}" for name in ("1111111-aaaaaa", "2222222-bbbbbb")]
        for release in [*releases, releases[0]]:
            process = await deploy.start(kit.serving[0], **home, RELEASE_ID=release)
            if process.type == "web":
                await process.ready()
                said = (await process.get("/version")).text
                require(release in said, f"release {release}: /version says {said}")
            await process.speaks()
            silent = [line for line in process.lines if release not in line]
            require(not silent, f"a line without its release: {silent[:1]}")
            await process.stop()
        after = digest(deploy.root)
        changed = {
            path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
        }
        require(not changed, f"changed by running: {sorted(changed)[:5]}")
    return f"{releases[0]}, {releases[1]} and back; {len(before)} files unchanged"
