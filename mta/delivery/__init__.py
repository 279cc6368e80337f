"""Where a message goes: plan, transports and the outcome for each recipient."""
