"""The conformance kit: the twelve factors, proven on the live processes."""
