"""Video analysis in one asyncio process, built on an event store."""
