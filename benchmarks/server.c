/* The other end of every measurement: one process, one listening port per service.

   Server and client share one core, so what the server costs is part of every number; hence large
   blocks per send, and a sink that has the kernel throw bytes away (MSG_TRUNC) instead of copying them.

   Prints "name port" for each service, then an empty line, and ends when its standard input does. */

#define _GNU_SOURCE
#include "serving.h"
#include <string.h>

enum { LINE = 80, BLOCK = 4096 * LINE, ECHO_BUFFER = 16 * 1024 };

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
    fill_with_lines(lf_lines, "\n");
    memset(bulk, 'x', BLOCK);
    fill_with_lines(crlf_lines, "\r\n");
    serve_all(services, sizeof services / sizeof *services);
    return 0;
}
