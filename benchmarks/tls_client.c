/* The limit over TLS: what each case costs when a person writes it in C on OpenSSL, for this one purpose.

   It verifies the server as the library does, its time limits are set, and it closes in order. A record takes one
   system call (read-ahead), large writes go out many records at a time. Called as
   "tls_client CASE PORT COUNT ROOTS", otherwise as `client.c`; for "resident" it prints bytes. */

#define _GNU_SOURCE
#include "dialling.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <string.h>

enum { MESSAGE = 64, CHUNK = 256 * 1024, WARM = 20 };

static char buffer[CHUNK];
static SSL_CTX *context;
static SSL_SESSION *latest;
static SSL *ssl;

static void require(int truth, const char *what) {
    if (truth)
        return;
    fprintf(stderr, "%s failed\n", what);
    exit(1);
}

static int keep(SSL *with, SSL_SESSION *session) {
    (void)with;
    SSL_SESSION_free(latest);
    latest = session;
    return 1;
}

static SSL *connected(int fd, SSL_SESSION *session) {
    SSL *made = SSL_new(context);
    require(made != NULL && SSL_set_fd(made, fd) == 1, "SSL_new");
    require(X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(made), "127.0.0.1") == 1, "the address to check");
    if (session != NULL)
        SSL_set_session(made, session);
    require(SSL_connect(made) == 1, "SSL_connect");
    return made;
}

static void hang_up(SSL *with) {
    int fd = SSL_get_fd(with);
    SSL_shutdown(with);
    SSL_free(with);
    close(fd);
}

static void exchange(SSL *with, int size) {
    require(SSL_write(with, buffer, size) == size, "SSL_write");
    for (int got = 0, more; got < size; got += more) {
        more = SSL_read(with, buffer, size - got);
        require(more > 0, "SSL_read");
    }
}

static void round_trip(long count) {
    while (count-- > 0)
        exchange(ssl, MESSAGE);
}

static void bulk_receive(long count) {
    for (long left = count * CHUNK; left > 0;) {
        int got = SSL_read(ssl, buffer, CHUNK);
        require(got > 0, "SSL_read");
        left -= got;
    }
}

static void bulk_send(long count) {
    while (count-- > 0)
        require(SSL_write(ssl, buffer, CHUNK) == CHUNK, "SSL_write");
    require(BIO_flush(SSL_get_wbio(ssl)) == 1, "BIO_flush");
}

static void send_file(long count) {
    const char *path = getenv("LANDLINE_BENCH_FILE");
    int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    require(file >= 0, "opening the file");
    while (count-- > 0) {
        ssize_t got;
        lseek(file, 0, SEEK_SET);
        while ((got = read(file, buffer, CHUNK)) > 0)
            require(SSL_write(ssl, buffer, (int)got) == got, "SSL_write");
        require(got == 0 && BIO_flush(SSL_get_wbio(ssl)) == 1, "reading the file");
    }
    close(file);
}

static void connect_and_close(long count) {
    while (count-- > 0)
        hang_up(connected(dial(), NULL));
}

static void visit(long count, int resume) {
    while (count-- > 0) {
        SSL_SESSION *offered = resume ? latest : NULL;
        SSL *with = connected(dial_with_limits(), offered);
        require(SSL_session_reused(with) == (offered != NULL), "resuming");
        exchange(with, 1);
        require(latest != NULL, "getting a ticket");
        hang_up(with);
    }
}

static void resumed(long count) {
    visit(count, 1);
}

static void fresh(long count) {
    visit(count, 0);
}

static long resident_bytes(void) {
    long all, resident;
    FILE *file = fopen("/proc/self/statm", "r");
    require(file != NULL && fscanf(file, "%ld %ld", &all, &resident) == 2, "reading /proc");
    fclose(file);
    return resident * sysconf(_SC_PAGESIZE);
}

static void resident(long count) {
    long before = 0;
    for (long number = -WARM; number < count; number++) {
        if (number == 0)
            before = resident_bytes();
        exchange(connected(dial_with_limits(), NULL), MESSAGE);
    }
    printf("%ld\n", resident_bytes() - before);
}

static const struct {
    const char *name;
    void (*run)(long count);
    enum { ONE, MANY, MEMORY } connections;
} cases[] = {
    {"round_trip", round_trip, ONE}, {"bulk_receive", bulk_receive, ONE},    {"bulk_send", bulk_send, ONE},
    {"send_file", send_file, ONE},
    {"resumed", resumed, MANY},      {"connect", connect_and_close, MANY}, {"fresh", fresh, MANY},
    {"resident", resident, MEMORY},
};

static void prepare(const char *roots) {
    context = SSL_CTX_new(TLS_client_method());
    require(context != NULL && SSL_CTX_load_verify_locations(context, roots, NULL) == 1, roots);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, keep);
}

static void collect_writes(void) {
    BIO *collecting = BIO_new(BIO_f_buffer());
    require(collecting != NULL && BIO_set_write_buffer_size(collecting, CHUNK) == 1, "BIO_new");
    SSL_set0_wbio(ssl, BIO_push(collecting, BIO_new_socket(SSL_get_fd(ssl), BIO_NOCLOSE)));
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "version") == 0) {
        printf("%s\n", OpenSSL_version(OPENSSL_VERSION));
        return 0;
    }
    if (argc != 5) {
        fprintf(stderr, "usage: tls_client CASE PORT COUNT ROOTS\n");
        return 2;
    }
    long count = atol(argv[3]);
    signal(SIGPIPE, SIG_IGN);
    memset(buffer, 'x', sizeof buffer);
    set_port(argv[2]);
    prepare(argv[4]);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (strcmp(cases[i].name, argv[1]) != 0)
            continue;
        if (cases[i].connections == MEMORY) {
            cases[i].run(count);
            return 0;
        }
        if (cases[i].connections == ONE) {
            /* Room for many records in one system call. */
            SSL_CTX_set_default_read_buffer_len(context, CHUNK);
            ssl = connected(dial_with_limits(), NULL);
        }
        if (cases[i].run == bulk_send || cases[i].run == send_file)
            collect_writes();
        cases[i].run(count / 10 + 1);
        start_clocks();
        cases[i].run(count);
        print_clocks(CLIENT);
        return 0;
    }
    fprintf(stderr, "no such case: %s\n", argv[1]);
    return 2;
}
