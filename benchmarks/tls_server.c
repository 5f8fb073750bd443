/* The other end of the measurements over TLS: `server.c` with OpenSSL.

   What the server costs is part of every number here too, so it does what it can with little: read-ahead, so
   that a record takes one system call; large sends; and a sink that throws records away unopened, once
   the handshake is done. What it pours it has to encrypt.

   Called as "tls_server EC RSA": files with a key and its certificates, of either kind. */

#define _GNU_SOURCE
#include "serving.h"
#include <openssl/ssl.h>
#include <signal.h>
#include <string.h>

enum { BLOCK = 256 * 1024, ECHO_BUFFER = 16 * 1024 };

static SSL_CTX *elliptic, *rsa;
static char bulk[BLOCK];

static SSL_CTX *new_context(const char *file) {
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (context == NULL || SSL_CTX_use_certificate_chain_file(context, file) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, file, SSL_FILETYPE_PEM) != 1)
        die(file);
    SSL_CTX_set_read_ahead(context, 1);
    return context;
}

/* NULL when the handshake failed: the client knows why. */
static SSL *accepted(SSL_CTX *context, int fd) {
    SSL *ssl = SSL_new(context);
    if (ssl == NULL || SSL_set_fd(ssl, fd) != 1)
        die("SSL_new");
    if (SSL_accept(ssl) == 1)
        return ssl;
    SSL_free(ssl);
    return NULL;
}

static void echo(int fd) {
    char buffer[ECHO_BUFFER];
    int got;
    SSL *ssl = accepted(elliptic, fd);
    while (ssl != NULL && (got = SSL_read(ssl, buffer, sizeof buffer)) > 0 && SSL_write(ssl, buffer, got) > 0)
        ;
    SSL_free(ssl);
}

static void pour_bulk(int fd) {
    SSL *ssl = accepted(elliptic, fd);
    if (ssl == NULL)
        return;
    BIO *collecting = BIO_new(BIO_f_buffer());
    if (collecting == NULL || BIO_set_write_buffer_size(collecting, BLOCK) != 1)
        die("BIO_new");
    SSL_set0_wbio(ssl, BIO_push(collecting, BIO_new_socket(fd, BIO_NOCLOSE)));
    while (SSL_write(ssl, bulk, sizeof bulk) > 0)
        ;
    SSL_free(ssl);
}

static void sink(int fd) {
    SSL *ssl = accepted(elliptic, fd);
    discard(fd);
    SSL_free(ssl);
}

/* A handshake; then every byte is answered until the client ends. */
static void receive_guest(SSL_CTX *context, int fd) {
    char byte;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    SSL *ssl = accepted(context, fd);
    while (ssl != NULL && SSL_read(ssl, &byte, 1) > 0 && SSL_write(ssl, &byte, 1) > 0)
        ;
    SSL_free(ssl);
    see_off(fd);
}

static void door(int fd) { receive_guest(elliptic, fd); }

static void rsa_door(int fd) { receive_guest(rsa, fd); }

int main(int argc, char **argv) {
    static struct service services[] = {
        {"echo", echo, SIDE_BY_SIDE, -1},
        {"source", pour_bulk, SIDE_BY_SIDE, -1},
        {"sink", sink, SIDE_BY_SIDE, -1},
        {"door", door, ONE_AT_A_TIME, -1},
        {"rsa_door", rsa_door, ONE_AT_A_TIME, -1},
    };
    if (argc != 3) {
        fprintf(stderr, "usage: tls_server EC RSA\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    memset(bulk, 'x', sizeof bulk);
    elliptic = new_context(argv[1]);
    rsa = new_context(argv[2]);
    serve_all(services, sizeof services / sizeof *services);
    return 0;
}
