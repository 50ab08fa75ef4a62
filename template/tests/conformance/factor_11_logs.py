"""XI Logs: the code prints events and knows of no place where they are kept."""

import ast
import re

from .catalogue import check, require
from .kit import Kit
from .reading import (
    COMPOSE,
    at,
    free_commands,
    free_of,
    imported,
    lines,
    name_of,
    nodes,
    source,
    strings,
)

HANDLER = re.compile(
    r"File(Handler|LoggerFactory)$|\b(Socket|Datagram|SysLog|NTEventLog|HTTP|SMTP|Fluent|Gelf|GELF"
    r"|Graylog|Logstash|AsynchronousLogstash|Loki|Splunk|Seq|CloudWatchLog|CloudLogging|AzureLog"
    r"|Logtail|Datadog|Elastic|Kafka|Redis|Syslog|Journal)\w*Handler$"
)
VENDORS = re.compile(
    r"(syslog|watchtower|logtail|graypy|fluent|logstash(_async)?|logging_loki|splunk_handler|seqlog"
    r"|pygelf|logdna|loggly|concurrent_log_handler|logzio|google\.cloud\.logging|systemd\.journal"
    r"|opencensus\.ext\.azure|logging_gelf|cmreslogging)(\.|$)"
)
SENT = re.compile(r">|\btee\b|\|\s*\w|--(access-?|error-?)?log-?(file|config)\b")
KEPT = re.compile(r"logrotate|/var/log|rsyslog|filebeat|logspout")
# Lines that somebody fetches from the machine on which they lie.
READ_THERE = re.compile(r"\bssh\b.*\b(tail|journalctl|less|grep|log)\b|/var/lib/docker/containers")
PRINTERS = {"basicConfig", "WriteLoggerFactory", "PrintLoggerFactory", "BytesLoggerFactory"}


@check("XI-5s", 3, 68, 69, 108, fast=True)
def no_place_for_logs_in_the_code(kit: Kit) -> str:
    """No handler writes to a file, a socket or a vendor, no command sends its output away, and
    nobody fetches it from a machine."""
    modules = source(kit)
    for path, node in nodes(modules):
        where = at(kit, path, node)
        for name in [*imported(node), name_of(node)]:
            require(not VENDORS.match(name) and not HANDLER.search(name), f"{where}: {name}")
        if isinstance(node, ast.Call) and name_of(node.func) in PRINTERS:
            for one in node.keywords:
                target = ast.unparse(one.value)
                bad = one.arg == "filename" or (one.arg == "file" and "std" not in target)
                require(not bad, f"{where}: {one.arg}={target}")
    for path, node, text in strings(modules):
        kept = HANDLER.search(text) or re.search(r"\.log(\.\d+)?$|^/var/log|^/dev/log$", text)
        require(not kept, f"{at(kit, path, node)}: {text}")
    free_of(kit, KEPT, "Dockerfile", "deploy/*", *COMPOSE)
    for where, line in lines(kit, "*.md", "bin/*", "scripts/*", "*.sh"):
        require(not READ_THERE.search(line), f"{where}: {line.strip()}")
    return f"{len(modules)} modules, {free_commands(kit, SENT)} commands"
