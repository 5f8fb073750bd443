/* What the clients share: connecting to a port of the server, and the clocks around their work. */

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { LIMIT_SECONDS = 5 };
enum side { CLIENT, SERVER };

static struct sockaddr_in server = {.sin_family = AF_INET};
static long long wall_start, client_start, server_start;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void set_port(const char *port) {
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server.sin_port = htons((unsigned short)atoi(port));
}

static int dial(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&server, sizeof server) < 0)
        die("connect");
    return fd;
}

static void set_limits(int fd) {
    struct timeval limit = {LIMIT_SECONDS, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

/* A connection as the library's: with time limits, and without delay. */
static int dial_with_limits(void) {
    int on = 1, fd = dial();
    set_limits(fd);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static long long read_clock(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static long long server_work(void) {
    const char *pid = getenv("LANDLINE_BENCH_SERVER");
    clockid_t clock;
    return pid != NULL && clock_getcpuclockid(atoi(pid), &clock) == 0 ? read_clock(clock) : 0;
}

static void start_clocks(void) {
    server_start = server_work();
    client_start = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    wall_start = read_clock(CLOCK_MONOTONIC);
}

/* Prints the nanoseconds since start_clocks(): by the clock on the wall; those that the side which is measured was at
   work; those of both sides. */
static void print_clocks(enum side measured) {
    long long wall = read_clock(CLOCK_MONOTONIC) - wall_start;
    long long client = read_clock(CLOCK_PROCESS_CPUTIME_ID) - client_start;
    long long other = server_work() - server_start;
    printf("%lld %lld %lld\n", wall, measured == CLIENT ? client : other, client + other);
}
