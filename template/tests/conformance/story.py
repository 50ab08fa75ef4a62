"""Your users' story: what they do, step by step, and what they are answered.

The kit tells every tests/**/story*.py to one replica, to four, and to four of which some are
killed between the steps, and compares what was answered. So a chapter asks for nothing that
another telling leaves behind, and calls `client.disturb()` where a death must not be noticed.

A chapter may also have what single checks need:
    TOUCH    requests that need a backing service, as (method, path)
    write    one request that changes something, by a name; `written` asks whether it is there
    enqueue  asks for one job, by a name; `done` asks whether its effect is there
"""

from tests.conformance.platform import Client


async def tell(client: Client) -> None:
    if "web" in client.deploy.commands:
        await client.ask(404, "GET", "/no-such-page")
        await client.disturb()
        await client.ask(404, "GET", "/no-such-page")
    else:
        await client.disturb()
        client.transcript.append(await client.console("print(6 * 7)"))
