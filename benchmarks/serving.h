/* What both servers share: one port per service, a thread per connection; for datagrams one thread.

   A thread per connection with blocking calls is the cheapest shape for few connections: one receive and
   one send per round trip, no epoll_wait in between. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STACK = 128 * 1024, BACKLOG = 1024 };

struct service {
    const char *name;
    void (*serve)(int fd);
    enum { SIDE_BY_SIDE, ONE_AT_A_TIME, DATAGRAMS } manner;
    int listener;
};

struct connection {
    void (*serve)(int fd);
    int fd;
};

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* Throws away what comes, in the kernel, without copying it. */
static void discard(int fd) {
    static char scratch[320 * 1024];
    while (recv(fd, scratch, sizeof scratch, MSG_TRUNC) > 0)
        ;
}

/* Waits for the client's end and answers with a reset, so that neither side is left with a port in
   TIME_WAIT: thousands of those would make each later connect slower than the one before. */
static void see_off(int fd) {
    struct linger reset = {1, 0};
    discard(fd);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
}

static void *serve_and_close(void *argument) {
    struct connection connection = *(struct connection *)argument;
    free(argument);
    connection.serve(connection.fd);
    close(connection.fd);
    return NULL;
}

static void *accept_forever(void *argument) {
    struct service *service = argument;
    pthread_attr_t detached;
    int on = 1;
    pthread_attr_init(&detached);
    pthread_attr_setstacksize(&detached, STACK);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    for (;;) {
        int fd = accept(service->listener, NULL, NULL);
        if (fd < 0) {
            if (errno == ECONNABORTED || errno == EINTR)
                continue;
            die("accept");
        }
        struct connection *connection = malloc(sizeof *connection);
        if (connection == NULL)
            die("malloc");
        *connection = (struct connection){service->serve, fd};
        if (service->manner == ONE_AT_A_TIME) {
            serve_and_close(connection);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        pthread_t thread;
        if (pthread_create(&thread, &detached, serve_and_close, connection) != 0)
            die("pthread_create");
    }
    return NULL;
}

static void *serve_datagrams(void *argument) {
    struct service *service = argument;
    service->serve(service->listener);
    die(service->name);
    return NULL;
}

static void start(struct service *service) {
    int datagrams = service->manner == DATAGRAMS;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    pthread_t thread;
    service->listener = socket(AF_INET, (datagrams ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
    if (service->listener < 0 ||
        bind(service->listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        (!datagrams && listen(service->listener, BACKLOG) < 0) ||
        getsockname(service->listener, (struct sockaddr *)&address, &length) < 0)
        die(service->name);
    printf("%s %d\n", service->name, ntohs(address.sin_port));
    if (pthread_create(&thread, NULL, datagrams ? serve_datagrams : accept_forever, service) != 0)
        die("pthread_create");
}

/* Prints "name port" for each service, then an empty line, and returns when standard input ends. */
static void serve_all(struct service *services, size_t count) {
    char byte;
    for (size_t i = 0; i < count; i++)
        start(&services[i]);
    printf("\n");
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
}
