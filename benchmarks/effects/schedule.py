"""The tick, every five seconds: a sixth field of cron, where a minute would be too long to wait."""

from .. import queue
from . import jobs

queue.schedule("* * * * * */5", jobs.tick)
