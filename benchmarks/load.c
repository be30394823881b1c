/* Load generator of the fan-out benchmark: one thread, one epoll, thousands of stream clients.
 *
 *   cc -O2 -o load load.c                       (plain sockets)
 *   cc -O2 -DWITH_TLS -o load load.c -lssl -lcrypto
 *
 *   load PORT CLIENTS MODE REQUEST HELLO READY TOKENS START INFLIGHT CONTROL_FD TLS STALLED
 *
 * MODE      ws | sse | sio (Socket.IO over WebSocket)
 * REQUEST   file with the HTTP request; @TOKEN@ stands for the client's line of the file TOKENS
 * HELLO     text sent as the first message of each client, empty for none
 * READY     text that the first bytes of a message hold when the server counts the client as present
 * TOKENS    file, a line a token, used in turn; empty for none
 * START     file of 8 bytes in which the server writes CLOCK_MONOTONIC (ns) when a tick begins
 * STALLED   so many of the clients read nothing once they are present, and count in no tick
 *
 * It speaks lines on stdin and JSON lines on stdout: when all are present {"event":"connected"}, then
 *   ticks N GAP_US    byte 't' to CONTROL_FD, wait until every client has a whole update, N times
 *   watch SECONDS     count what comes by itself
 *   quit
 * An update is a message that begins with `{"event":"metrics_`, a Socket.IO event of such a name, an SSE
 * block with it, or a compressed message of 256 bytes and more. Latency is from the tick's begin on the
 * server to the last byte of the client's frame, after a real recv() of all of it.
 * Only to addresses of this machine: it connects to 127.0.0.1 and nothing else. So many clients as EACH_ADDRESS come
 * from 127.0.0.2, as many from 127.0.0.3, and so on.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/ssl.h>
#endif

enum { SCRATCH = 1 << 18, HEAD = 160, HTTP_MAX = 8192, TICK_TIMEOUT_S = 120, COMPRESSED_MIN = 256, EACH_ADDRESS = 10 };
enum state { CONNECTING, SHAKING, ASKED, OPEN };
enum mode { WS, SSE, SIO };

struct client {
    int fd;
    enum state state;
    int present;        /* the server counts it as there */
    int hello_sent;
    uint32_t had;       /* number of the last tick it had an update of */
    char *http;         /* response head while it is incomplete */
    int http_len;
    unsigned char frame[14]; /* WebSocket frame header while it is incomplete */
    int frame_len, in_frame;
    uint64_t left, total;    /* payload bytes to come; of the whole message with its framing */
    unsigned char head[HEAD];
    int head_len;
    int newline;        /* SSE: the last byte was a line end */
#ifdef WITH_TLS
    SSL *ssl;
#endif
};

static struct client *clients;
static int count, epoll_fd, control_fd, inflight, started, present;
static int port, use_tls, stalled;
static enum mode mode;
static char *request, *hello, *ready;
static char **tokens;
static int token_count;
static volatile uint64_t *tick_start;
static unsigned char scratch[SCRATCH];

static uint32_t tick;          /* number of the running tick, 0: none */
static int got;                /* updates of this tick so far */
static int watching;
static double *latency_us;
static uint64_t bytes, updates, extra;
static uint32_t *sizes;        /* of watched updates */
static uint64_t size_count, size_room;

#ifdef WITH_TLS
static SSL_CTX *tls;
#endif

static void die(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fprintf(stderr, "load: ");
    vfprintf(stderr, format, list);
    fprintf(stderr, "\n");
    va_end(list);
    exit(1);
}

static uint64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static char *slurp(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *text = NULL;
    size_t room = 0, size = 0, n;
    if (!file)
        die("cannot read %s", path);
    do {
        if (size + 65536 + 1 > room)
            text = realloc(text, room = size * 2 + 131072);
        n = fread(text + size, 1, 65536, file);
        size += n;
    } while (n > 0);
    fclose(file);
    text[size] = 0;
    return text;
}

/* -- sending ---------------------------------------------------------------------------------------- */

static void put(struct client *c, const void *data, size_t size)
{
    ssize_t n;
#ifdef WITH_TLS
    if (use_tls) {
        if (SSL_write(c->ssl, data, (int)size) != (int)size)
            die("client %d: TLS write failed", (int)(c - clients));
        return;
    }
#endif
    n = send(c->fd, data, size, MSG_NOSIGNAL);
    if (n != (ssize_t)size)
        die("client %d: short write", (int)(c - clients));
}

static void put_frame(struct client *c, int opcode, const void *data, size_t size)
{
    unsigned char frame[HEAD + 8 + 4096];
    size_t head = 2;
    if (size > 4096)
        die("message too long");
    frame[0] = (unsigned char)(0x80 | opcode);
    if (size < 126) {
        frame[1] = (unsigned char)(0x80 | size);
    } else {
        frame[1] = 0x80 | 126;
        frame[2] = (unsigned char)(size >> 8);
        frame[3] = (unsigned char)size;
        head = 4;
    }
    memset(frame + head, 0, 4); /* a mask of zeros: the payload stays as it is */
    memcpy(frame + head + 4, data, size);
    put(c, frame, head + 4 + size);
}

static void ask(struct client *c)
{
    char text[HTTP_MAX + 8192];
    char *mark = strstr(request, "@TOKEN@");
    int index = (int)(c - clients);
    if (mark && token_count)
        snprintf(text, sizeof text, "%.*s%s%s", (int)(mark - request), request, tokens[index % token_count], mark + 7);
    else
        snprintf(text, sizeof text, "%s", request);
    put(c, text, strlen(text));
    c->state = ASKED;
}

static void begin(struct client *c)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in own = {.sin_family = AF_INET};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    int one = 1;
    struct linger hard = {1, 0}; /* leave no TIME_WAIT behind */
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    own.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (uint32_t)(c - clients) / EACH_ADDRESS);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(c->fd, (struct sockaddr *)&own, sizeof own) < 0)
        die("bind: %s", strerror(errno));
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        die("connect: %s", strerror(errno));
    c->state = CONNECTING;
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
    started++;
}

/* -- what arrives ----------------------------------------------------------------------------------- */

static void is_present(struct client *c)
{
    if (c->present)
        return;
    c->present = 1;
    present++;
}

static void update(struct client *c, uint64_t size)
{
    is_present(c);
    if (watching) {
        if (size_count == size_room)
            sizes = realloc(sizes, (size_room = size_room * 2 + 4096) * sizeof *sizes);
        sizes[size_count++] = (uint32_t)size;
        updates++;
        bytes += size;
        return;
    }
    if (!tick || c->had == tick) {
        extra++;
        return;
    }
    c->had = tick;
    latency_us[got++] = (double)(int64_t)(now_ns(CLOCK_MONOTONIC) - *tick_start) / 1000.0;
    bytes += size;
}

static int holds(struct client *c, const char *text)
{
    return memmem(c->head, (size_t)c->head_len, text, strlen(text)) != NULL;
}

static void message(struct client *c, int opcode, int compressed)
{
    if (opcode == 9) {
        put_frame(c, 10, c->head, (size_t)c->head_len);
        return;
    }
    if (opcode == 8)
        die("client %d: closed by the server: %.*s", (int)(c - clients), c->head_len - 2, c->head + 2);
    if (opcode == 10)
        return;
    if (mode == SIO && c->head_len == 1 && c->head[0] == '2') { /* Engine.IO's ping */
        put_frame(c, 1, "3", 1);
        return;
    }
    if (mode == SIO && c->head_len > 1 && c->head[0] == '0') { /* Engine.IO is open: join the namespace */
        put_frame(c, 1, "40", 2);
        return;
    }
    if (compressed ? c->total >= COMPRESSED_MIN : holds(c, "\"metrics_"))
        update(c, c->total);
    else if (watching)
        bytes += c->total;
    if (holds(c, ready))
        is_present(c);
}

static void take_frames(struct client *c, const unsigned char *data, size_t size)
{
    while (size || (c->in_frame && !c->left)) {
        if (!c->in_frame) {
            int need = 2;
            size_t n;
            if (c->frame_len >= 2)
                need = 2 + ((c->frame[1] & 127) == 126 ? 2 : (c->frame[1] & 127) == 127 ? 8 : 0);
            n = (size_t)(need - c->frame_len) < size ? (size_t)(need - c->frame_len) : size;
            memcpy(c->frame + c->frame_len, data, n);
            c->frame_len += (int)n;
            data += n;
            size -= n;
            if (c->frame_len < need)
                return;
            if (need == 2 && (c->frame[1] & 127) >= 126)
                continue;
            c->left = c->frame[1] & 127;
            if (need > 2) {
                c->left = 0;
                for (int i = 2; i < need; i++)
                    c->left = c->left << 8 | c->frame[i];
            }
            c->total = c->left + (uint64_t)need;
            c->head_len = 0;
            c->in_frame = 1;
        }
        uint64_t n = c->left < size ? c->left : size;
        if (c->head_len < HEAD) {
            int room = HEAD - c->head_len, part = n < (uint64_t)room ? (int)n : room;
            memcpy(c->head + c->head_len, data, (size_t)part);
            c->head_len += part;
        }
        data += n;
        size -= n;
        c->left -= n;
        if (!c->left) {
            c->in_frame = c->frame_len = 0;
            message(c, c->frame[0] & 15, c->frame[0] & 0x40);
        }
    }
}

static void take_blocks(struct client *c, const unsigned char *data, size_t size)
{
    const unsigned char *end = data + size;
    while (data < end) {
        const unsigned char *line = memchr(data, '\n', (size_t)(end - data));
        const unsigned char *stop = line ? line + 1 : end;
        int blank = line == data && c->newline;
        int room = HEAD - c->head_len;
        int part = stop - data < room ? (int)(stop - data) : room;
        memcpy(c->head + c->head_len, data, (size_t)part);
        c->head_len += part;
        c->total += (uint64_t)(stop - data);
        c->newline = line != NULL;
        data = stop;
        if (blank) {
            int named = c->head_len > 7 && !memcmp(c->head, "event: ", 7);
            if (named ? holds(c, "event: metrics_") : (holds(c, "data: ") && c->head[0] != ':'))
                update(c, c->total);
            else if (watching)
                bytes += c->total;
            c->head_len = 0;
            c->total = 0;
        }
    }
}

static void take(struct client *c, const unsigned char *data, size_t size)
{
    char *end;
    size_t rest, n = size;
    if (c->state == OPEN) {
        mode == SSE ? take_blocks(c, data, size) : take_frames(c, data, size);
        return;
    }
    if (!c->http)
        c->http = malloc(HTTP_MAX);
    if (n > (size_t)(HTTP_MAX - 1 - c->http_len))
        n = (size_t)(HTTP_MAX - 1 - c->http_len);
    memcpy(c->http + c->http_len, data, n);
    c->http_len += (int)n;
    c->http[c->http_len] = 0;
    end = strstr(c->http, "\r\n\r\n");
    if (!end) {
        if (c->http_len == HTTP_MAX - 1)
            die("no end of the response head");
        return;
    }
    if (strncmp(c->http, mode == SSE ? "HTTP/1.1 200" : "HTTP/1.1 101", 12))
        die("refused: %s", c->http);
    rest = size - (size_t)(end + 4 - c->http - (c->http_len - (int)n));
    free(c->http);
    c->http = NULL;
    c->state = OPEN;
    if (hello[0])
        put_frame(c, 1, hello, strlen(hello));
    if (rest)
        take(c, data + size - rest, rest);
}

static void readable(struct client *c)
{
    ssize_t n;
#ifdef WITH_TLS
    if (use_tls) {
        int k;
        while ((k = SSL_read(c->ssl, scratch, SCRATCH)) > 0)
            take(c, scratch, (size_t)k);
        if (SSL_get_error(c->ssl, k) != SSL_ERROR_WANT_READ)
            die("client %d: TLS read failed", (int)(c - clients));
        return;
    }
#endif
    n = recv(c->fd, scratch, SCRATCH, 0);
    if (n > 0)
        take(c, scratch, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        die("client %d: the server hung up in state %d%s", (int)(c - clients), c->state, n ? " (reset)" : "");
}

static void on_event(struct client *c, uint32_t what)
{
    struct epoll_event reading = {.events = EPOLLIN, .data.ptr = c};
    if (c->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error)
            die("connect: %s", strerror(error));
        if (!(what & EPOLLOUT))
            return;
        epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &reading);
#ifdef WITH_TLS
        if (use_tls) {
            c->ssl = SSL_new(tls);
            SSL_set_fd(c->ssl, c->fd);
            SSL_set_connect_state(c->ssl);
            c->state = SHAKING;
        } else
#endif
            ask(c);
    }
#ifdef WITH_TLS
    if (c->state == SHAKING) {
        int done = SSL_do_handshake(c->ssl);
        if (done == 1)
            ask(c);
        else if (SSL_get_error(c->ssl, done) != SSL_ERROR_WANT_READ)
            die("TLS handshake failed");
    }
#endif
    if ((c->state == ASKED || c->state == OPEN) && (what & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        readable(c);
}

/* -- commands ---------------------------------------------------------------------------------------- */

static char line[256];

/* One round of events; true when a line has come on stdin. */
static int serve(int timeout_ms)
{
    struct epoll_event events[512];
    int commanded = 0, n = epoll_wait(epoll_fd, events, 512, timeout_ms);
    for (int i = 0; i < n; i++) {
        if (events[i].data.ptr) {
            on_event(events[i].data.ptr, events[i].events);
            continue;
        }
        ssize_t size = read(0, line, sizeof line - 1);
        if (size <= 0)
            exit(0);
        line[size] = 0;
        commanded = 1;
    }
    return commanded;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void connect_all(void)
{
    uint64_t begun = now_ns(CLOCK_MONOTONIC);
    while (present < count) {
        while (started < count && started - present < inflight)
            begin(&clients[started]);
        serve(1000);
        if (now_ns(CLOCK_MONOTONIC) - begun > (uint64_t)TICK_TIMEOUT_S * 1000000000u)
            die("only %d of %d clients are present", present, count);
    }
    printf("{\"event\":\"connected\",\"clients\":%d,\"seconds\":%.6f}\n", count,
           (double)(now_ns(CLOCK_MONOTONIC) - begun) / 1e9);
    for (int i = 0; i < stalled; i++)
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, clients[i].fd, NULL);
}

static void pause_us(uint64_t us)
{
    uint64_t until = now_ns(CLOCK_MONOTONIC) + us * 1000;
    for (;;) {
        int64_t left = (int64_t)(until - now_ns(CLOCK_MONOTONIC));
        if (left <= 0)
            return;
        serve((int)(left / 1000000) + 1);
    }
}

static void run_ticks(int n, uint64_t gap_us)
{
    static uint32_t number;
    uint64_t begun = now_ns(CLOCK_MONOTONIC), busy = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    bytes = extra = 0;
    printf("{\"event\":\"ticks\",\"ticks\":[");
    for (int i = 0; i < n; i++) {
        uint64_t asked = now_ns(CLOCK_MONOTONIC);
        tick = ++number;
        got = 0;
        if (write(control_fd, "t", 1) != 1)
            die("the server has gone");
        while (got < count - stalled) {
            serve(1000);
            if (now_ns(CLOCK_MONOTONIC) - asked > (uint64_t)TICK_TIMEOUT_S * 1000000000u)
                die("tick %u: only %d of %d clients have their update", number, got, count - stalled);
        }
        tick = 0;
        qsort(latency_us, (size_t)got, sizeof *latency_us, by_value);
        printf("%s[%.1f,%.1f,%.1f,%.1f]", i ? "," : "", latency_us[0], latency_us[got / 2],
               latency_us[(int)((double)(got - 1) * 0.99)], latency_us[got - 1]);
        pause_us(gap_us);
    }
    printf("],\"bytes\":%llu,\"extra\":%llu,\"seconds\":%.6f,\"cpu_s\":%.6f}\n", (unsigned long long)bytes,
           (unsigned long long)extra, (double)(now_ns(CLOCK_MONOTONIC) - begun) / 1e9,
           (double)(now_ns(CLOCK_PROCESS_CPUTIME_ID) - busy) / 1e9);
}

static void watch(double seconds)
{
    bytes = updates = size_count = 0;
    watching = 1;
    pause_us((uint64_t)(seconds * 1e6));
    watching = 0;
    qsort(sizes, size_count, sizeof *sizes, by_size);
    printf("{\"event\":\"watched\",\"bytes\":%llu,\"updates\":%llu,\"median_bytes\":%u,\"largest_bytes\":%u}\n",
           (unsigned long long)bytes, (unsigned long long)updates, size_count ? sizes[size_count / 2] : 0,
           size_count ? sizes[size_count - 1] : 0);
}

int main(int argc, char **argv)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    int start_fd;
    if (argc != 13)
        die("usage: load PORT CLIENTS MODE REQUEST HELLO READY TOKENS START INFLIGHT CONTROL_FD TLS STALLED");
    port = atoi(argv[1]);
    count = atoi(argv[2]);
    mode = !strcmp(argv[3], "sse") ? SSE : !strcmp(argv[3], "sio") ? SIO : WS;
    request = slurp(argv[4]);
    hello = argv[5];
    ready = argv[6];
    if (argv[7][0]) {
        for (char *word = strtok(slurp(argv[7]), "\n"); word; word = strtok(NULL, "\n")) {
            tokens = realloc(tokens, (size_t)(token_count + 1) * sizeof *tokens);
            tokens[token_count++] = word;
        }
    }
    if ((start_fd = open(argv[8], O_RDONLY)) < 0)
        die("cannot open %s", argv[8]);
    tick_start = mmap(NULL, 8, PROT_READ, MAP_SHARED, start_fd, 0);
    if (tick_start == MAP_FAILED)
        die("cannot map %s", argv[8]);
    inflight = atoi(argv[9]);
    control_fd = atoi(argv[10]);
    use_tls = atoi(argv[11]);
    stalled = atoi(argv[12]);
#ifdef WITH_TLS
    if (use_tls && !(tls = SSL_CTX_new(TLS_client_method())))
        die("no TLS");
#else
    if (use_tls)
        die("built without TLS");
#endif
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &event);
    clients = calloc((size_t)count, sizeof *clients);
    latency_us = calloc((size_t)count, sizeof *latency_us);
    connect_all();
    fflush(stdout);
    for (;;) {
        int n;
        unsigned long long gap_us;
        double seconds;
        if (!serve(-1))
            continue;
        if (sscanf(line, "ticks %d %llu", &n, &gap_us) == 2)
            run_ticks(n, gap_us);
        else if (sscanf(line, "watch %lf", &seconds) == 1)
            watch(seconds);
        else
            return 0;
        fflush(stdout);
    }
}
