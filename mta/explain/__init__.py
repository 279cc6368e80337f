"""`tamis explain`: the policy of the configuration, asked about a session that there is not."""
