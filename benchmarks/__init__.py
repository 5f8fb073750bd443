"""Landline measured against its peers: `python -m benchmarks --help`.

To add a peer: a module in `peers/` (its package says what it must hold). To add a case: a `Case` in
`cases.py`, a method of that name in every peer that can do it, and, where C has something
to say, a function in `client.c`. Peers that are servers run in a process of their own (`serve.py`), and the client of
all of them is `load.c`. Cases whose names begin with "tls_" have programs of their own, `tls_server.c` and
`tls_client.c`, which need OpenSSL's headers (libssl-dev). Without these, these cases are left out; without a C compiler
all of them, as it is always C that is at the other end.
"""
