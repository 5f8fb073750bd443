"""TLS without I/O: what ``ssl_ctx`` may be, which names are sent and checked, and why a certificate was refused.

    abstract.py     create_ssl_client_context, create_ssl_server_context: contexts described by files and callbacks
    plan.py         what ssl_ctx may be -> TlsPlan: all that one handshake needs
    names.py        SNI, and the name the certificate must be for
    contexts.py     the SSLContexts landline makes: built once, shared
    files.py        keys, certificates and lists, with errors that name the file
    choosing.py     a server's choice of context by SNI
    sessions.py     sessions kept for resumption
    certificate.py  certificates as plain values
    refusal.py      why a certificate was refused, in one sentence

Nothing is imported here, so that a default value (names.NOT_GIVEN) costs no more than itself. No file of these
loads ssl when it is imported; using them does.
"""
