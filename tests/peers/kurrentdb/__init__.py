"""A server that speaks KurrentDB's gRPC protocol (streams and gossip), for tests of the adapter without the database.

It follows what the documentation and the server's behaviour say of appends, idempotence, deletes, `$all`, filters and
subscriptions; it is no database: it keeps everything in memory, and a journal where it is given a file.
"""
