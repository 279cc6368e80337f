"""The director: the users of a domain spread over several mail stores.

`spread` chooses by hashing, `state` is what administrators have changed (weights, moved users), `shared`
keeps it where all nodes see it, `director` puts them together for a worker.
"""
