/* The other end of every measurement: one process, one listening port per service.

   A thread per connection with blocking calls is the cheapest shape for few connections: one receive and
   one send per round trip, no epoll_wait in between. Server and client share one core, so what
   the server costs is part of every number; hence large blocks per send, and a sink that has the
   kernel throw bytes away (MSG_TRUNC) instead of copying them.

   Prints "name port" for each service, then an empty line, and ends when its standard input does. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LINE = 80, BLOCK = 4096 * LINE, ECHO_BUFFER = 16 * 1024, STACK = 128 * 1024, BACKLOG = 1024 };

static char lf_lines[BLOCK], crlf_lines[BLOCK], bulk[BLOCK], scratch[BLOCK];

struct service {
    const char *name;
    void (*serve)(int fd);
    int one_at_a_time;
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

static int send_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent < 0)
            return -1;
        data += sent;
        size -= (size_t)sent;
    }
    return 0;
}

static void echo(int fd) {
    char buffer[ECHO_BUFFER];
    ssize_t got;
    while ((got = recv(fd, buffer, sizeof buffer, 0)) > 0 && send_all(fd, buffer, (size_t)got) == 0)
        ;
}

static void pour_lf_lines(int fd) {
    while (send_all(fd, lf_lines, BLOCK) == 0)
        ;
}

static void pour_crlf_lines(int fd) {
    while (send_all(fd, crlf_lines, BLOCK) == 0)
        ;
}

static void pour_bulk(int fd) {
    while (send_all(fd, bulk, BLOCK) == 0)
        ;
}

static void discard(int fd) {
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
        if (service->one_at_a_time) {
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

static void start(struct service *service) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    pthread_t thread;
    service->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (service->listener < 0 ||
        bind(service->listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(service->listener, BACKLOG) < 0 ||
        getsockname(service->listener, (struct sockaddr *)&address, &length) < 0)
        die(service->name);
    printf("%s %d\n", service->name, ntohs(address.sin_port));
    if (pthread_create(&thread, NULL, accept_forever, service) != 0)
        die("pthread_create");
}

static void fill_with_lines(char *block, const char *ending) {
    size_t length = strlen(ending);
    memset(block, 'x', BLOCK);
    for (char *line = block; line < block + BLOCK; line += LINE)
        memcpy(line + LINE - length, ending, length);
}

int main(void) {
    static struct service services[] = {
        {"echo", echo, 0, -1},
        {"lines", pour_lf_lines, 0, -1},
        {"crlf_lines", pour_crlf_lines, 0, -1},
        {"source", pour_bulk, 0, -1},
        {"sink", discard, 0, -1},
        {"door", see_off, 1, -1},
    };
    char byte;
    fill_with_lines(lf_lines, "\n");
    memset(bulk, 'x', BLOCK);
    fill_with_lines(crlf_lines, "\r\n");
    for (size_t i = 0; i < sizeof services / sizeof *services; i++)
        start(&services[i]);
    printf("\n");
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    return 0;
}
