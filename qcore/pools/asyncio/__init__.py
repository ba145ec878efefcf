"""The asyncio pool."""
