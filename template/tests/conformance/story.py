"""Your users' story: what they do, step by step, and what they are answered.

The kit tells every tests/**/story*.py to one replica, to three, and to three of which some are
killed between the steps, and compares what was answered. So a chapter asks for nothing that
another telling leaves behind, and calls `client.disturb()` where a death must not be noticed.

A chapter may also have what single checks need:
    TOUCH    a list of requests that need a backing service: (method, path, httpx2's other options)
    write    `await write(client, name)` writes something of this name;
             `await written(client)` returns the names that are there, each as often as it is
    enqueue  `await enqueue(client, number)` asks for so many jobs and returns what they are about;
             `await done(client, about)` says whether each of these has had its effect
    repeat   `await repeat(client, times)` sends a request that asks for one job so many times at
             once, as somebody does who got no answer, and returns what it is about
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
