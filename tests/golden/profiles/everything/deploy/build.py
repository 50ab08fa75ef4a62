"""Build (factor V): one image of one commit, by the name that never means another."""

import os
import re
import subprocess
import tempfile

from . import project
from .project import ROOT, Failed, Refused, say

REVISION = "org.opencontainers.image.revision"
SEED = 'source = { registry = "." }'


def build(*, push: bool) -> str:
    """Build this commit's image; its name by digest, or by its id on this engine alone."""
    revision = project.commit()
    if SEED in (ROOT / "uv.lock").read_text():
        raise Refused("uv.lock is not complete yet: run bin/setup, commit it, then build.")
    tag = f"{project.image()}:{revision[:7]}"
    epoch = project.output("git", "-C", str(ROOT), "log", "-1", "--format=%ct").strip()
    with tempfile.TemporaryDirectory() as context:
        # The commit itself, not the work tree: what git ignores cannot get in.
        archive = ("git", "-C", str(ROOT), "-c", "tar.umask=022", "archive", "HEAD")
        tree = subprocess.run(archive, check=True, stdout=subprocess.PIPE).stdout
        subprocess.run(["tar", "-x", "-C", context], input=tree, check=True)
        arguments = [f"REVISION={revision}", f"SOURCE_DATE_EPOCH={epoch}"]
        flags = [word for one in arguments for word in ("--build-arg", one)]
        engine = os.environ | {"DOCKER_BUILDKIT": "1"}
        project.show("docker", "build", *flags, "--tag", tag, context, env=engine)
    if not push:
        say("Not pushed: this image is on this engine alone, and only this engine can run it.")
        return project.output("docker", "image", "inspect", "--format={{.Id}}", tag).strip()
    project.show("docker", "push", tag)
    form = "--format={{range .RepoDigests}}{{println .}}{{end}}"
    for name in project.output("docker", "image", "inspect", form, tag).split():
        if name.rpartition("@")[0] == project.image():
            return name
    raise Failed(f"the registry gave no digest for {tag}")


def revision(image: str) -> str:
    """The commit that an image was built from, which its label says."""
    form = f'--format={{{{index .Config.Labels "{REVISION}"}}}}'
    try:
        label = project.output("docker", "image", "inspect", form, image)
    except (Failed, Refused):
        try:
            project.output("docker", "pull", "--quiet", image)
            label = project.output("docker", "image", "inspect", form, image)
        except (Failed, Refused) as reason:
            say(f"The image cannot be inspected here, so it counts as this commit's. {reason}")
            return project.commit()
    if not re.fullmatch("[0-9a-f]{40}", label.strip()):
        raise Refused(f"{image} does not say which commit it was built from: use bin/build.")
    return label.strip()
