"""Webhooks: events are sent to receivers over HTTP, signed, at least once.

`service` takes users' wishes, `directory` knows which webhooks there are, `dispatcher` (of the copy that leads) runs
one `delivery` for each of them, `sender` sends.
"""
