"""TLS through Java: for machines where trust lives in a Java key store or a FIPS provider, and for Android.

    open.py      open_tcp_stream_using_java(), switch_open_tcp_stream_with_ssl_to_java()
    context.py   what stands where ssl_ctx does: whom the certificate must be for, and the plan of a handshake
    stores.py    key stores, and the SSLContexts made of them
    engine.py    a javax.net.ssl.SSLEngine that behaves like an ssl.SSLObject: so sessions, transports and streams
                 are the same as over OpenSSL, and only TLS itself is Java's
    failures.py  what Java says, as OpenSSL would say it
    bridge.py    the way into the JVM, over jpype; pyjnius.py: over pyjnius
    relay.py     an SSLSocket of a factory that gives no SSLEngine

Nothing is imported here, and no file of these loads jpype when it is imported; using them does.
"""
