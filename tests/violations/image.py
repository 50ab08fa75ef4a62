"""The image: right on the laptop that never runs it. Tried with a container engine only."""

from .violation import Violation

RUN = "USER 10001:10001\n"

VIOLATIONS = [
    Violation(
        name="unlabelled-image",
        factor="I",
        stands_for="an image that nobody can tell from last month's",
        edits={
            "Dockerfile": (
                '      org.opencontainers.image.revision="${REVISION}"\n',
                '      org.opencontainers.image.version="1"\n',
            )
        },
        killed_by="I-5",
    ),
    Violation(
        name="tools-in-image",
        factor="II",
        stands_for="the developers' packages in production",
        edits={"Dockerfile": ("--locked --no-dev --no-editable", "--locked --no-editable")},
        killed_by="II-5",
    ),
    Violation(
        name="dotenv-in-image",
        factor="III",
        stands_for="the settings of whoever built it, in a layer",
        edits={
            "Dockerfile": (RUN, "COPY . /app/source\n" + RUN),
            ".dockerignore": ("", "!.env\n"),
        },
        killed_by="III-6",
    ),
    Violation(
        name="root-in-image",
        factor="V",
        stands_for="an image that runs as root",
        edits={"Dockerfile": (RUN, "")},
        killed_by="V-8",
    ),
    Violation(
        name="shell-in-image",
        factor="V",
        stands_for="a shell that is the first process and hears the signals",
        edits={
            "Dockerfile": (
                'ENTRYPOINT ["python", "-m", "invoiceflow"]',
                'ENTRYPOINT ["sh", "-c", "python -m invoiceflow \\"$0\\"; exit $?"]',
            )
        },
        killed_by="V-8",
    ),
    Violation(
        name="checkout-in-image",
        factor="III",
        stands_for="the whole folder in a layer, the settings of whoever built it with it",
        edits={
            "Dockerfile": (
                "lib/python*/site-packages/invoiceflow\n",
                "lib/python*/site-packages/invoiceflow \\\n    && cp -R /src /app/source\n",
            ),
            ".dockerignore": ("", "!.env\n"),
        },
        killed_by="III-6",
    ),
]
