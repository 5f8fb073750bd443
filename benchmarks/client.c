/* The limit: what each case costs when a person writes it in C, by hand, for this one purpose.

   It does the same job as the library, not less: the receive limit is set, counts are exact, lines are
   found with memchr, short writes are collected. Called as "client CASE PORT COUNT"; a tenth of
   COUNT is done first, unmeasured; prints the nanoseconds that COUNT operations took, and those
   that this process, and it and the server, were at work. */

#define _GNU_SOURCE
#include "dialling.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

enum { MESSAGE = 64, FRAME = 16, LINE = 80, CHUNK = 256 * 1024, PENDING = 64 * 1024, BURST = 100 };

static char buffer[CHUNK], item[LINE];
static size_t start, end;

static size_t receive(int fd, char *into, size_t size) {
    ssize_t got = recv(fd, into, size, 0);
    if (got <= 0)
        die("recv");
    return (size_t)got;
}

static void send_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent < 0)
            die("send");
        data += sent;
        size -= (size_t)sent;
    }
}

/* Makes room behind what is left in the buffer and receives once. */
static void refill(int fd) {
    memmove(buffer, buffer + start, end - start);
    end -= start;
    start = 0;
    end += receive(fd, buffer + end, CHUNK - end);
}

static void round_trip(int fd, long count) {
    while (count-- > 0) {
        send_all(fd, item, MESSAGE);
        for (size_t got = 0; got < MESSAGE;)
            got += receive(fd, buffer + got, MESSAGE - got);
    }
}

static void take_line(const char *line_end) {
    size_t size = (size_t)(line_end - (buffer + start));
    if (size != LINE) {
        errno = EPROTO;
        die("line");
    }
    memcpy(item, buffer + start, size);
    start += size;
}

static void readline(int fd, long count) {
    while (count-- > 0) {
        char *found;
        while ((found = memchr(buffer + start, '\n', end - start)) == NULL)
            refill(fd);
        take_line(found + 1);
    }
}

static void until(int fd, long count) {
    while (count-- > 0) {
        char *found;
        while ((found = memmem(buffer + start, end - start, "\r\n", 2)) == NULL)
            refill(fd);
        take_line(found + 2);
    }
}

static void frames(int fd, long count) {
    while (count-- > 0) {
        while (end - start < FRAME)
            refill(fd);
        memcpy(item, buffer + start, FRAME);
        start += FRAME;
    }
}

static void bulk_read(int fd, long count) {
    for (size_t left = (size_t)count * CHUNK; left > 0;)
        left -= receive(fd, buffer, left < CHUNK ? left : CHUNK);
}

static void bulk_write(int fd, long count) {
    while (count-- > 0)
        send_all(fd, buffer, CHUNK);
}

static void small_writes(int fd, long count) {
    size_t pending = 0;
    while (count-- > 0) {
        if (pending + LINE > PENDING) {
            send_all(fd, buffer, pending);
            pending = 0;
        }
        memcpy(buffer + pending, item, LINE);
        pending += LINE;
    }
    send_all(fd, buffer, pending);
}

static void send_file(int fd, long count) {
    const char *path = getenv("LANDLINE_BENCH_FILE");
    int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    struct stat about;
    if (file < 0 || fstat(file, &about) < 0)
        die("opening the file");
    while (count-- > 0)
        for (off_t offset = 0; offset < about.st_size;)
            if (sendfile(fd, file, &offset, (size_t)(about.st_size - offset)) <= 0)
                die("sendfile");
    close(file);
}

static int udp_socket(int connected) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || (connected && connect(fd, (struct sockaddr *)&server, sizeof server) < 0))
        die("socket");
    set_limits(fd);
    return fd;
}

static void expect_message(ssize_t got) {
    if (got == MESSAGE)
        return;
    if (got >= 0)
        errno = EPROTO;
    die("datagram");
}

static void udp_round_trip(int fd, long count) {
    while (count-- > 0) {
        send_all(fd, item, MESSAGE);
        expect_message(recv(fd, buffer, CHUNK, 0));
    }
}

static void udp_unconnected(int fd, long count) {
    while (count-- > 0) {
        struct sockaddr_in sender;
        socklen_t length = sizeof sender;
        if (sendto(fd, item, MESSAGE, 0, (struct sockaddr *)&server, sizeof server) != MESSAGE)
            die("sendto");
        expect_message(recvfrom(fd, buffer, CHUNK, 0, (struct sockaddr *)&sender, &length));
    }
}

/* They are asked for burst by burst, so that none is lost: the kernel has room for two. */
static void udp_receive(int fd, long count) {
    for (; count > 0; count -= BURST) {
        send_all(fd, item, MESSAGE);
        for (long left = count < BURST ? count : BURST; left > 0; left--)
            expect_message(recv(fd, buffer, CHUNK, 0));
    }
}

static void connect_and_close(int fd, long count) {
    (void)fd;
    while (count-- > 0)
        close(dial());
}

static int no_connection(void) { return -1; }

static int bound(void) { return udp_socket(0); }

static int connected(void) { return udp_socket(1); }

static const struct {
    const char *name;
    int (*open)(void);
    void (*run)(int fd, long count);
} cases[] = {
    {"round_trip", dial_with_limits, round_trip},
    {"readline", dial_with_limits, readline},
    {"until", dial_with_limits, until},
    {"frames", dial_with_limits, frames},
    {"bulk_read", dial_with_limits, bulk_read},
    {"bulk_write", dial_with_limits, bulk_write},
    {"small_writes", dial_with_limits, small_writes},
    {"send_file", dial_with_limits, send_file},
    {"udp_round_trip", connected, udp_round_trip},
    {"udp_unconnected", bound, udp_unconnected},
    {"udp_receive", connected, udp_receive},
    {"connect", no_connection, connect_and_close},
};

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: client CASE PORT COUNT\n");
        return 2;
    }
    long count = atol(argv[3]);
    memset(buffer, 'x', sizeof buffer);
    set_port(argv[2]);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (strcmp(cases[i].name, argv[1]) != 0)
            continue;
        int fd = cases[i].open();
        cases[i].run(fd, count / 10 + 1);
        start_clocks();
        cases[i].run(fd, count);
        print_clocks(CLIENT);
        return 0;
    }
    fprintf(stderr, "no such case: %s\n", argv[1]);
    return 2;
}
