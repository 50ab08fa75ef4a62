"""The verbs of bin/: each prints its answer on the last line of standard output."""

import argparse
import signal
import sys
from pathlib import Path

from . import build, release, rollout, smoke
from .project import Failed, Refused, say


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cancelled pipeline: go back
    asked = _parser().parse_args(arguments)
    try:
        if asked.verb == "build":
            print(build.build(push=asked.push))
        elif asked.verb == "release":
            made = release.make(
                asked.environment,
                asked.image,
                asked.config,
                without_staging=asked.without_staging,
            )
            print(made.id)
        elif asked.verb == "deploy":
            rollout.deploy(asked.release, dry_run=asked.dry_run)
        elif asked.verb == "rollback" and asked.list:
            print("\n".join(rollout.listed(asked.environment)))
        elif asked.verb == "rollback":
            print(rollout.rollback(asked.environment, asked.release, dry_run=asked.dry_run))
        else:
            print(smoke.smoke(asked.url, asked.release))
    except (Refused, Failed) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bin")
    verbs = parser.add_subparsers(dest="verb", required=True)

    verb = verbs.add_parser("build", help="build the image of this commit")
    verb.add_argument("--push", action="store_true", help="push it to its registry")

    verb = verbs.add_parser("release", help="join a build and a configuration")
    verb.add_argument("environment", help="such as staging or production")
    verb.add_argument("image", help="IMAGE@sha256:DIGEST, as bin/build --push prints it")
    verb.add_argument("--config", type=Path, help="a dotenv file outside of the repository")
    verb.add_argument(
        "--without-staging",
        action="store_true",
        help="release to production what staging has not had",
    )

    verb = verbs.add_parser("deploy", help="run a release")
    verb.add_argument("release", help="the id that bin/release printed")
    verb.add_argument("--dry-run", action="store_true", help="print what would be done")

    verb = verbs.add_parser("rollback", help="run an earlier release again")
    verb.add_argument("environment")
    verb.add_argument("release", nargs="?", help="by default the one before")
    verb.add_argument("--list", action="store_true", help="print the releases to go back to")
    verb.add_argument("--dry-run", action="store_true", help="print what would be done")

    verb = verbs.add_parser("smoke", help="ask whether what runs there is well")
    verb.add_argument("url")
    verb.add_argument("release", nargs="?", help="the release that should run there")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
