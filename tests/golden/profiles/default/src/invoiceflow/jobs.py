"""Your jobs: async functions with plain JSON arguments, such as `@job() async def send(to: str)`.

Ask for one in the transaction that causes it: `await send.enqueue(session, "ada@example.org")`.
"""
