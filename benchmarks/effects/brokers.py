"""What a broker still holds, what it has put aside as failed, and which versions are at work."""

from contextlib import closing
from importlib.metadata import version

from .. import config


async def postgres() -> dict[str, object]:
    from sqlalchemy import text

    from ..postgres import transaction

    count = "select count(*) from procrastinate_jobs where queue_name <> 'maintenance' and status"
    async with transaction() as session:
        return {
            "waiting": await session.scalar(text(f"{count} in ('todo', 'doing')")),
            "failed": await session.scalar(text(f"{count} = 'failed'")),
            "versions": f"procrastinate {version('procrastinate')}, "
            f"PostgreSQL {await session.scalar(text('show server_version'))}",
        }


async def redis() -> dict[str, object]:
    from .. import queue_redis
    from ..redis import commands

    settings = config.load()
    async with commands() as client:
        bodies = await client.hlen(queue_redis.BODIES)  # of what is in hand too, until it is done
        server = await client.info("server")
    depth = await queue_redis.depth(settings)
    name = server.get("server_name", "redis")
    return {
        "waiting": depth.waiting + bodies,
        "failed": depth.dead,
        "versions": f"dramatiq {version('dramatiq')}, {name} {server[f'{name}_version']}",
    }


async def rabbitmq() -> dict[str, object]:
    import pika

    from .. import queue_rabbitmq

    settings = config.load()
    parameters = pika.URLParameters(settings.rabbitmq_url.get_secret_value())
    with closing(pika.BlockingConnection(parameters)) as connection:
        server = connection._impl.server_properties["version"]
    depth = await queue_rabbitmq.depth(settings)
    return {
        "waiting": depth.waiting,
        "failed": depth.dead,
        "versions": f"dramatiq {version('dramatiq')}, RabbitMQ {server}",
    }
