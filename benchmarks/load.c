/* The clients of the servers that are measured. One process for all of them, and the same for every server, so
   that the servers are what is compared.

   Called as "load CASE PORT COUNT"; a tenth of COUNT is done first, unmeasured. Prints the nanoseconds that COUNT
   requests took, those that the *server* was at work, and those of both.

   echo_1, echo_100: so many connections, each with one request of 64 bytes on its way, until COUNT are answered.
   visits: 50 clients at a time that connect, ask once, wait for the server's end, and go. They go with a reset:
   the server has closed already, does not hear of it, and is not left with a port in TIME_WAIT. */

#define _GNU_SOURCE
#include "dialling.h"
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

enum { MESSAGE = 64, MANY = 100, VISITORS = 50 };

struct guest {
    int fd;
    size_t got;
};

static struct guest guests[MANY];
static char message[MESSAGE];
static int poller;

static void ask(const struct guest *guest) {
    if (send(guest->fd, message, MESSAGE, MSG_NOSIGNAL) != MESSAGE)
        die("send");
}

static void arrive(struct guest *guest) {
    struct epoll_event interest = {.events = EPOLLIN, .data.ptr = guest};
    *guest = (struct guest){dial_with_limits(), 0};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, guest->fd, &interest) < 0)
        die("epoll_ctl");
}

static void leave(const struct guest *guest) {
    struct linger reset = {1, 0};
    setsockopt(guest->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(guest->fd);
}

/* 1 when an answer is complete, 0 when some of it is still to come, -1 at the server's end. */
static int hear(struct guest *guest) {
    char answer[MESSAGE + 1];
    ssize_t got = recv(guest->fd, answer, sizeof answer, 0);
    if (got < 0)
        die("recv");
    guest->got += (size_t)got;
    if (got > 0 ? guest->got > MESSAGE : guest->got != MESSAGE) {
        errno = EPROTO;
        die("answer");
    }
    return got == 0 ? -1 : guest->got == MESSAGE;
}

static int wait_for_some(struct epoll_event *events) {
    int ready = epoll_wait(poller, events, MANY, LIMIT_SECONDS * 1000);
    if (ready > 0)
        return ready;
    if (ready == 0)
        errno = ETIMEDOUT;
    die("epoll_wait");
    return 0;
}

static void echo(long count, int connections) {
    struct epoll_event events[MANY];
    long asked = 0, answered = 0;
    for (; asked < connections && asked < count; asked++)
        ask(&guests[asked]);
    while (answered < count)
        for (int i = wait_for_some(events); i-- > 0;) {
            struct guest *guest = events[i].data.ptr;
            if (hear(guest) != 1)
                continue;
            answered++;
            guest->got = 0;
            if (asked < count) {
                asked++;
                ask(guest);
            }
        }
}

static void visits(long count, int visitors) {
    struct epoll_event events[MANY];
    long begun = 0, done = 0;
    for (; begun < visitors && begun < count; begun++) {
        arrive(&guests[begun]);
        ask(&guests[begun]);
    }
    while (done < count)
        for (int i = wait_for_some(events); i-- > 0;) {
            struct guest *guest = events[i].data.ptr;
            if (hear(guest) != -1)
                continue;
            done++;
            leave(guest);
            if (begun < count) {
                begun++;
                arrive(guest);
                ask(guest);
            }
        }
}

static const struct {
    const char *name;
    void (*run)(long count, int connections);
    int connections;
} cases[] = {{"echo_1", echo, 1}, {"echo_100", echo, MANY}, {"visits", visits, VISITORS}};

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: load CASE PORT COUNT\n");
        return 2;
    }
    long count = atol(argv[3]);
    memset(message, 'x', sizeof message);
    set_port(argv[2]);
    poller = epoll_create1(EPOLL_CLOEXEC);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (strcmp(cases[i].name, argv[1]) != 0)
            continue;
        if (cases[i].run == echo)
            for (int number = 0; number < cases[i].connections; number++)
                arrive(&guests[number]);
        cases[i].run(count / 10 + cases[i].connections, cases[i].connections);
        start_clocks();
        cases[i].run(count, cases[i].connections);
        print_clocks(SERVER);
        return 0;
    }
    fprintf(stderr, "no such case: %s\n", argv[1]);
    return 2;
}
