"""Mail that waits: between the transaction, which hands it over, and the queue, which keeps it.

`keeper` takes what a transaction could not deliver, `record` writes down what must be known of it later,
`runner` tries it again, `gate` shares the limits of next hops between first tries and later ones, `reports`
tells senders, `desk` answers administrators. `mailqueue` keeps and schedules; it knows nothing of SMTP.
"""
