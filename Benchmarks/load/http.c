#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void send_request(struct device *device, int count, const char *request) {
    device->awaits_content = true;
    stream_send(device, request, (size_t)count);
}

static void begin_chunk(struct device *device) {
    char request[512];
    int count = snprintf(
        request, sizeof request,
        "GET /api/v1/%s/firmware?title=firmware&version=1&size=%zu&chunk=%u HTTP/1.1\r\nHost: localhost\r\n\r\n",
        token(device), options.size, device->chunk
    );
    send_request(device, count, request);
}

static void begin_range(struct device *device) {
    char request[512];
    size_t first = device->chunk * options.size;
    int count = snprintf(
        request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\nRange: bytes=%zu-%zu\r\n\r\n", options.path,
        first, first + chunk_size(device->chunk) - 1
    );
    send_request(device, count, request);
}

static void begin_report(struct device *device) {
    char request[1024];
    const char *body = report(device);
    int count = snprintf(
        request, sizeof request,
        "POST /api/v1/%s/telemetry HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Content-Length: %zu\r\n\r\n%s",
        token(device), strlen(body), body
    );
    send_request(device, count, request);
}

// Takes in one whole response; `expected` is how long its body must be.
static size_t take_response(struct device *device, size_t expected) {
    if (device->have < 16) return 0;
    char *text = (char *)device->in;
    char *end = memmem(text, device->have, "\r\n\r\n", 4);
    if (!end) return 0;
    if (memcmp(text, "HTTP/1.1 20", 11) != 0) fail("device %d: %.*s", device->index, (int)(end - text), text);
    size_t head = (size_t)(end - text) + 4, length = 0;
    for (char *line = memchr(text, '\n', head); line && line < end; line = memchr(line + 1, '\n', head)) {
        if (strncasecmp(line + 1, "content-length:", 15) == 0) length = strtoul(line + 16, NULL, 10);
    }
    if (length != expected) fail("device %d: %zu bytes instead of %zu", device->index, length, expected);
    if (device->have < head + length) return 0;
    if (device->have > head + length) fail("device %d: bytes after the response", device->index);
    if (length > 0) check(device, device->in + head, length);
    device->awaits_content = false;
    // `complete` may send, which leaves `in` as it is.
    size_t whole = head + length;
    complete(device, length);
    return whole;
}

static size_t take_chunk(struct device *device) { return take_response(device, chunk_size(device->chunk)); }
static size_t take_accepted(struct device *device) { return take_response(device, 0); }

const struct protocol http_chunk = {
    .name = "http-chunk", .connect = stream_connect, .begin = begin_chunk, .take = take_chunk,
};
const struct protocol http_range = {
    .name = "http-range", .connect = stream_connect, .begin = begin_range, .take = take_chunk,
};
const struct protocol http_report = {
    .name = "http-report", .connect = stream_connect, .begin = begin_report, .take = take_accepted,
};
