"""Your schedule: which job is due when (UTC), as `queue.schedule("0 7 * * *", jobs.report)`."""
