// A load generator: one thread, many devices, each with one operation under way at a time.
//
// It knows just enough of HTTP, MQTT and CoAP to ask for chunks and to send reports, and compares every byte that it is sent
// with the file that it should be. What the server spends meanwhile is read from the accounting of its threads.
#ifndef LOAD_H
#define LOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct options {
    const char *protocol;
    struct sockaddr_in server;
    int devices;
    // Bytes per chunk, and the file that chunks are of.
    size_t size;
    const uint8_t *file;
    size_t file_size;
    // Where the file is, for peers that are no host of updates.
    const char *path;
    // What devices report, one after the other.
    const char *bodies[16];
    uint32_t bodies_count;
    int qos;
    bool tls;
    // Each device fetches the file once, instead of for a while.
    bool once;
    // How many operations all devices together begin in a second, each at its time; 0 for as many as they can.
    double rate;
    // Where to write how many reports of each device were acknowledged when the server was gone. Reports then have times of
    // their own, from `first_time` on (milliseconds since 1970), by which they can be found again.
    const char *counts;
    uint64_t first_time;
    double warmup, seconds;
};

extern struct options options;

struct device {
    int fd;
    void *tls;
    int index;
    // Zero-based index of the chunk, or report, under way.
    uint32_t chunk;
    // How many operations were completed, those before and after the measurement included.
    uint32_t completed;
    bool idle;
    // When the operation should have begun, and when it did; they differ only if operations have their times.
    uint64_t began, asked;
    uint8_t *in;
    size_t have, room;
    // MQTT: what the operation still waits for. CoAP: the message and its token.
    bool awaits_acknowledgement, awaits_content;
    uint16_t id;
    uint8_t sent[512];
    size_t sent_size;
};

// A protocol: how a device connects, begins an operation, and takes in what came.
struct protocol {
    const char *name;
    void (*connect)(struct device *);
    void (*begin)(struct device *);
    // Returns how many bytes of `in` it is done with; zero if more must come.
    size_t (*take)(struct device *);
    bool datagrams;
    // Two connections per device: the second publishes what the first is subscribed to.
    bool pairs;
};

extern const struct protocol http_chunk, http_range, http_report;
extern const struct protocol mqtt_chunk, mqtt_route, mqtt_report;
extern const struct protocol coap_block;

// Ends the program with a message.
_Noreturn void fail(const char *format, ...);
// The connection of a device is gone: the end of the program, unless that was waited for.
void lost(const struct device *, const char *why);
uint64_t now_ns(void);

// The device that is connected beside this one, see `pairs`.
struct device *partner(struct device *);
// Counts an operation, and begins the next one.
void complete(struct device *, size_t bytes);
// Compares the bytes of the chunk under way with the file.
void check(const struct device *, const uint8_t *bytes, size_t count);
size_t chunk_size(uint32_t chunk);

// Connects over TCP, and TLS if asked for.
void stream_connect(struct device *);
void stream_send(struct device *, const void *bytes, size_t count);
// Returns 0 when nothing is there yet.
size_t stream_receive(struct device *, void *bytes, size_t room);
// Whether TLS holds back bytes that it has read already.
bool stream_pending(struct device *);

// What a device reports next.
const char *report(const struct device *);
// The token of a device, as the benchmark makes them.
const char *token(const struct device *);

#endif
