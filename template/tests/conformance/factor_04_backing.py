"""IV Backing services: nothing in the code knows where one is, or what lies beside it."""

import ast
import re

from .catalogue import check, require
from .kit import Kit
from .reading import COMPOSE, HERE_ALONE, assigned, at, free_of, name_of, nodes, source, strings

HERE = re.compile(rf"{HERE_ALONE.pattern}|/(var/)?run/\S+\.sock")
# What a URL says of its place, and with which options: in the code it counts for every deploy.
PLACE = {"virtual_host", "db", "dbname", "database"}
OPTIONS = re.compile(r"\s*-c\s*\w+\s*=.*")
# Of a database: the files of its machine.
ITS_FILES = re.compile(
    r"(?is)\bcopy\b.+\b(to|from)\s+(program\s+)?'|\bload\s+data\s+infile\b"
    r"|\b(pg_read_(binary_)?file|pg_ls_dir|lo_import|lo_export|into\s+outfile)\b"
)
HOST = {"host", "hostname", "netloc"}
RESOLVES = {"gethostbyname", "gethostbyname_ex", "getaddrinfo"}
# Of a manifest: a service that is let in at one address, or beside the process.
PINNED = re.compile(
    r"\b(?!169\.254\.)(\d{1,3}\.){3}\d{1,3}/(2[5-9]|3[0-2])\b|\bhostAliases\b|\bextra_hosts\b|--add-host\b"
    r"|^(Requires|Requisite|BindsTo|Wants)=.*\b(postgres\w*|redis|valkey|rabbitmq|mysql|maria\w*)\b"
)


@check("IV-5", 32, 33, 34, fast=True)
def known_by_its_url(kit: Kit) -> str:
    """No service is expected on the same machine or at one address, found once and for all, or
    asked for files of its machine."""
    modules = source(kit)
    for path, node, text in strings(modules):
        where = at(kit, path, node)
        require(not HERE.fullmatch(text), f"{where}: a service at {text}")
        require(not OPTIONS.fullmatch(text), f"{where}: options past the URL's, {text}")
        require(not ITS_FILES.search(text), f"{where}: files of a server's machine: {text[:60]}")
    for path, node in nodes(modules):
        if isinstance(node, ast.keyword) and node.arg in HOST:
            plain = isinstance(node.value, ast.Attribute | ast.Name)
            derived = not plain and HOST & {name_of(one) for one in ast.walk(node.value)}
            require(not derived, f"{at(kit, path, node)}: an address that is made of another's")
        for name, value in assigned(node) if isinstance(node, ast.Assign | ast.keyword) else ():
            fixed = name in PLACE and isinstance(value, ast.Constant) and value.value is not None
            require(not fixed, f"{at(kit, path, node)}: {name} past the URL's")
        pinned = name_of(node) in RESOLVES
        require(not pinned, f"{at(kit, path, node)}: an address that is looked up once")
    return f"{len(modules)} modules, {free_of(kit, PINNED, 'deploy/*', *COMPOSE)} lines"
