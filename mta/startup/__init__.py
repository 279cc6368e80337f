"""Start-up checks: whether the world knows this server as the configuration says, and it can keep its word.

`result` is what a check says, `claims` what we claim to be, `world` how others are asked; one module is one
kind of check, `table` lists all of them, `runner` runs them, `verdict` says what follows for a start,
`render` shows what they found to people and `report` tells it to the supervisor. Each check looks (a thin
shell over `world`) and judges (a pure function that tests feed by hand).
"""
