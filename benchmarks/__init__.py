"""Landline measured against its peers: `python -m benchmarks --help`.

To add a peer: a module in `peers/` (its package says what it must hold). To add a case: a `Case` in
`cases.py`, a method of that name in every peer that can do it, and, where C has something
to say, a function in `client.c`. Cases whose names begin with "tls_" have programs of their own, `tls_server.c`
and `tls_client.c`, which need OpenSSL's headers (libssl-dev); without them these cases are left out.
"""
