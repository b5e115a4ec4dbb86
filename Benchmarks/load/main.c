#include "load.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct options options;

static const struct protocol *protocols[] = {
    &http_chunk, &http_range, &http_report, &mqtt_chunk, &mqtt_route, &mqtt_report, &coap_block,
};
static const struct protocol *protocol;
static struct device *devices;
static int connections, running;
// How many operations were begun at their times, and whether the server is gone.
static uint64_t paced;
static bool is_cut;
static const char *server_processes = "";

// What was measured.
static bool measuring;
static uint64_t operations, bytes_received, retries;
static uint32_t *latencies;
static size_t latencies_room;

_Noreturn void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

void lost(const struct device *device, const char *why) {
    if (!options.counts) fail("device %d: %s", device->index, why);
    is_cut = true;
}

uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

struct device *partner(struct device *device) { return &devices[device->index ^ 1]; }

const char *token(const struct device *device) {
    static char text[16];
    snprintf(text, sizeof text, "T%07d", device->index);
    return text;
}

const char *report(const struct device *device) {
    const char *body = options.bodies[device->chunk];
    if (!options.counts) return body;
    static char text[1024];
    snprintf(
        text, sizeof text, "{\"ts\":%llu,\"values\":%s}",
        (unsigned long long)options.first_time + device->completed, body
    );
    return text;
}

// After so many operations a device begins anew.
static uint32_t chunks(void) {
    if (options.bodies_count > 0) return options.bodies_count;
    return (uint32_t)((options.file_size + options.size - 1) / options.size);
}

size_t chunk_size(uint32_t chunk) {
    size_t left = options.file_size - chunk * options.size;
    return left < options.size ? left : options.size;
}

void check(const struct device *device, const uint8_t *bytes, size_t count) {
    if (memcmp(bytes, options.file + device->chunk * options.size, count) != 0)
        fail("device %d: chunk %u is not what the file has there", device->index, device->chunk);
}

static void begin(struct device *device) {
    device->began = device->asked = now_ns();
    protocol->begin(device);
}

static void record(uint64_t latency) {
    if (operations == latencies_room) {
        latencies_room = latencies_room ? latencies_room * 2 : 1 << 20;
        latencies = realloc(latencies, latencies_room * sizeof *latencies);
    }
    latencies[operations++] = (uint32_t)(latency / 100);
}

void complete(struct device *device, size_t bytes) {
    if (measuring) {
        record(now_ns() - device->began);
        bytes_received += bytes;
    }
    device->completed++;
    device->chunk++;
    if (device->chunk == chunks()) {
        device->chunk = 0;
        if (options.once) {
            device->idle = true;
            running--;
            return;
        }
    }
    if (options.rate > 0) device->idle = true; else begin(device);
}

// Begins the operations whose time has come, of one device after the other; one that has to wait for its device counts from
// when it should have begun.
static void pace(uint64_t start, uint64_t now) {
    for (;;) {
        uint64_t due = start + (uint64_t)((double)paced / options.rate * 1e9);
        struct device *device = &devices[paced % (uint64_t)connections];
        if (due > now || !device->idle) return;
        paced++;
        device->idle = false;
        device->began = due;
        device->asked = now;
        protocol->begin(device);
    }
}

// Nanoseconds on a processor that the threads of a process had so far, by the scheduler's own count.
static uint64_t process_ns(const char *pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/task", pid);
    DIR *folder = opendir(path);
    if (!folder) fail("no process %s", pid);
    uint64_t sum = 0;
    for (struct dirent *thread; (thread = readdir(folder));) {
        if (thread->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/%s/task/%.16s/schedstat", pid, thread->d_name);
        FILE *file = fopen(path, "r");
        unsigned long long time = 0;
        if (file && fscanf(file, "%llu", &time) == 1) sum += time;
        if (file) fclose(file);
    }
    closedir(folder);
    return sum;
}

static uint64_t servers_ns(void) {
    char list[256];
    snprintf(list, sizeof list, "%s", server_processes);
    uint64_t sum = 0;
    for (char *pid = strtok(list, ","); pid; pid = strtok(NULL, ",")) sum += process_ns(pid);
    return sum;
}

static void receive(struct device *device) {
    do {
        size_t count = stream_receive(device, device->in + device->have, device->room - device->have);
        if (count == 0) return;
        device->have += count;
        for (size_t taken; device->have > 0 && (taken = protocol->take(device)) > 0;) {
            device->have -= taken;
            memmove(device->in, device->in + taken, device->have);
        }
        if (device->have == device->room) fail("device %d: an answer longer than %zu bytes", device->index, device->room);
    } while (stream_pending(device) || protocol->datagrams);
}

// Sends again what was not answered for two seconds (RFC 7252 §4.2), which the kernel does for TCP.
static void repeat(void) {
    uint64_t now = now_ns();
    for (int i = 0; i < connections; i++) {
        struct device *device = &devices[i];
        uint64_t waited = now - device->asked;
        if (waited > 30000000000 && !device->idle && !(protocol->pairs && i % 2))
            fail("device %d: no answer for 30 s", i);
        if (!protocol->datagrams || device->idle || waited < 2000000000) continue;
        stream_send(device, device->sent, device->sent_size);
        retries++;
    }
}

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double quantile(double part) {
    return operations ? latencies[(size_t)(part * (double)(operations - 1))] / 10.0 : 0;
}

static void print(uint64_t duration, uint64_t cpu) {
    qsort(latencies, operations, sizeof *latencies, compare);
    printf(
        "{\"operations\":%llu,\"seconds\":%.6f,\"bytes\":%llu,\"cpu_us\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"retries\":%llu}\n",
        (unsigned long long)operations, (double)duration / 1e9, (unsigned long long)bytes_received, (double)cpu / 1e3,
        quantile(0.5), quantile(0.99), (unsigned long long)retries
    );
}

// One line for each device, in order.
static void write_counts(void) {
    FILE *file = fopen(options.counts, "w");
    if (!file) fail("%s: %s", options.counts, strerror(errno));
    for (int i = 0; i < connections; i++) fprintf(file, "%u\n", devices[i].completed);
    if (fclose(file) != 0) fail("%s: %s", options.counts, strerror(errno));
}

static void run(int poll) {
    struct epoll_event events[256];
    uint64_t start = now_ns(), checked = start, began = 0, cpu = 0, duration = 0;
    // What is fetched once is measured from the first request to the last byte.
    uint64_t measured_from = options.once ? start : start + (uint64_t)(options.warmup * 1e9);
    uint64_t until = options.once ? UINT64_MAX : measured_from + (uint64_t)(options.seconds * 1e9);
    for (int i = 0; i < connections; i += protocol->pairs ? 2 : 1) {
        if (!measuring && options.once) {
            measuring = true;
            began = now_ns();
            cpu = servers_ns();
        }
        if (options.rate > 0) devices[i].idle = true; else begin(&devices[i]);
    }
    while (running > 0 && !is_cut) {
        // Never sleeps: to wake it, on another core, would be the server's expense, and that of the slower server only. At a rate
        // there is no other server, and what is left of the core is the server's.
        int count = epoll_wait(poll, events, 256, options.rate > 0 ? 1 : 0);
        uint64_t now = now_ns();
        if (!measuring && duration == 0 && now >= measured_from) {
            measuring = true;
            began = now;
            cpu = servers_ns();
        }
        if (measuring && now >= until) {
            measuring = false;
            duration = now - began;
            cpu = servers_ns() - cpu;
            if (!options.counts) break;
            // Whoever is to end the server waits for this.
            fputs("measured\n", stderr);
        }
        if (options.rate > 0) pace(start, now);
        for (int i = 0; i < count && !is_cut; i++) receive(events[i].data.ptr);
        if (now - checked > 500000000) {
            repeat();
            checked = now;
        }
    }
    if (is_cut && duration == 0) fail("the server was gone before all was measured");
    if (duration == 0) {
        duration = now_ns() - began;
        cpu = servers_ns() - cpu;
    }
    if (options.counts) write_counts();
    print(duration, cpu);
}

static void read_options(int count, char **arguments) {
    options = (struct options){.devices = 1, .warmup = 0.5, .seconds = 3};
    options.server.sin_family = AF_INET;
    options.server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 1; i < count; i++) {
        const char *name = arguments[i];
        if (strcmp(name, "--once") == 0) { options.once = true; continue; }
        if (strcmp(name, "--tls") == 0) { options.tls = true; continue; }
        if (i + 1 == count) fail("'%s' needs a value", name);
        const char *value = arguments[++i];
        if (strcmp(name, "--protocol") == 0) options.protocol = value;
        else if (strcmp(name, "--port") == 0) options.server.sin_port = htons((uint16_t)atoi(value));
        else if (strcmp(name, "--devices") == 0) options.devices = atoi(value);
        else if (strcmp(name, "--size") == 0) options.size = strtoul(value, NULL, 10);
        else if (strcmp(name, "--path") == 0) options.path = value;
        else if (strcmp(name, "--body") == 0 && options.bodies_count < 16) options.bodies[options.bodies_count++] = value;
        else if (strcmp(name, "--qos") == 0) options.qos = atoi(value);
        else if (strcmp(name, "--warmup") == 0) options.warmup = atof(value);
        else if (strcmp(name, "--seconds") == 0) options.seconds = atof(value);
        else if (strcmp(name, "--rate") == 0) options.rate = atof(value);
        else if (strcmp(name, "--counts") == 0) options.counts = value;
        else if (strcmp(name, "--first-time") == 0) options.first_time = strtoull(value, NULL, 10);
        else if (strcmp(name, "--processes") == 0) server_processes = value;
        else if (strcmp(name, "--file") == 0) {
            int file = open(value, O_RDONLY);
            struct stat status;
            if (file < 0 || fstat(file, &status) < 0) fail("%s: %s", value, strerror(errno));
            options.file_size = (size_t)status.st_size;
            options.file = mmap(NULL, options.file_size, PROT_READ, MAP_SHARED | MAP_POPULATE, file, 0);
        } else fail("unknown option '%s'", name);
    }
    for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++)
        if (options.protocol && strcmp(options.protocol, protocols[i]->name) == 0) protocol = protocols[i];
    if (!protocol) fail("--protocol is missing or unknown");
    if (options.bodies_count == 0 && (!options.file || options.size == 0)) fail("--file and --size, or --body, are missing");
}

int main(int count, char **arguments) {
    read_options(count, arguments);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    running = options.devices;
    connections = options.devices * (protocol->pairs ? 2 : 1);
    devices = calloc((size_t)connections, sizeof *devices);
    int poll = epoll_create1(0);
    for (int i = 0; i < connections; i++) {
        struct device *device = &devices[i];
        device->index = i;
        device->room = options.size + 4096;
        device->in = malloc(device->room);
        // Devices that fetch for a while are at different places of the file.
        if (!options.once && !protocol->datagrams) device->chunk = (uint32_t)i * 7 % chunks();
        protocol->connect(device);
        fcntl(device->fd, F_SETFL, O_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = device};
        epoll_ctl(poll, EPOLL_CTL_ADD, device->fd, &event);
    }
    run(poll);
    return 0;
}
