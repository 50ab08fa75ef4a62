"""Your jobs: async functions with plain JSON arguments, such as `@job() async def send(to: str)`.

Ask for one by `await send.enqueue("ada@example.org")`; with PostgreSQL the session comes first, and
the job with its transaction.
"""
