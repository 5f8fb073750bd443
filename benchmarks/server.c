/* The other end of every measurement: one process, one listening port per service.

   Server and client share one core, so what the server costs is part of every number; hence large
   blocks per send, and a sink that has the kernel throw bytes away (MSG_TRUNC) instead of copying them.

   Prints "name port" for each service, then an empty line, and ends when its standard input does. */

#define _GNU_SOURCE
#include "serving.h"
#include <string.h>

enum { LINE = 80, BLOCK = 4096 * LINE, ECHO_BUFFER = 16 * 1024, MESSAGE = 64, BURST = 100 };

static char lf_lines[BLOCK], crlf_lines[BLOCK], bulk[BLOCK];

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

/* Of one client among many: one request, one answer. */
static void answer_once(int fd) {
    char request[MESSAGE];
    size_t size = 0;
    ssize_t got;
    while (size < sizeof request && (got = recv(fd, request + size, sizeof request - size, 0)) > 0)
        size += (size_t)got;
    if (size == sizeof request)
        send_all(fd, request, size);
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

static void echo_datagrams(int fd) {
    for (;;) {
        char buffer[ECHO_BUFFER];
        struct sockaddr_in sender;
        socklen_t length = sizeof sender;
        ssize_t got = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&sender, &length);
        if (got >= 0)
            sendto(fd, buffer, (size_t)got, 0, (struct sockaddr *)&sender, length);
    }
}

/* Each datagram is answered by a burst. */
static void send_bursts(int fd) {
    for (;;) {
        char request[MESSAGE];
        struct sockaddr_in sender;
        socklen_t length = sizeof sender;
        if (recvfrom(fd, request, sizeof request, 0, (struct sockaddr *)&sender, &length) < 0)
            continue;
        for (int number = 0; number < BURST; number++)
            sendto(fd, bulk, MESSAGE, 0, (struct sockaddr *)&sender, length);
    }
}

static void fill_with_lines(char *block, const char *ending) {
    size_t length = strlen(ending);
    memset(block, 'x', BLOCK);
    for (char *line = block; line < block + BLOCK; line += LINE)
        memcpy(line + LINE - length, ending, length);
}

int main(void) {
    static struct service services[] = {
        {"echo", echo, SIDE_BY_SIDE, -1},
        {"once", answer_once, SIDE_BY_SIDE, -1},
        {"lines", pour_lf_lines, SIDE_BY_SIDE, -1},
        {"crlf_lines", pour_crlf_lines, SIDE_BY_SIDE, -1},
        {"source", pour_bulk, SIDE_BY_SIDE, -1},
        {"sink", discard, SIDE_BY_SIDE, -1},
        {"door", see_off, ONE_AT_A_TIME, -1},
        {"udp_echo", echo_datagrams, DATAGRAMS, -1},
        {"udp_source", send_bursts, DATAGRAMS, -1},
    };
    fill_with_lines(lf_lines, "\n");
    memset(bulk, 'x', BLOCK);
    fill_with_lines(crlf_lines, "\r\n");
    serve_all(services, sizeof services / sizeof *services);
    return 0;
}
