"""Milter and Postfix policy protocols, sans-IO plus an asyncio shell; nothing of the MTA."""
