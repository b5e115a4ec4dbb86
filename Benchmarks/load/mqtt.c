#include "load.h"

#include <stdio.h>
#include <string.h>

enum { CONNACK = 2, PUBLISH = 3, PUBACK = 4, SUBACK = 9 };

static uint8_t *put_text(uint8_t *out, const char *text) {
    size_t count = strlen(text);
    *out++ = (uint8_t)(count >> 8);
    *out++ = (uint8_t)count;
    memcpy(out, text, count);
    return out + count;
}

static uint8_t *put_length(uint8_t *out, size_t length) {
    do {
        *out++ = (uint8_t)(length % 128 | (length > 127 ? 128 : 0));
        length /= 128;
    } while (length > 0);
    return out;
}

// Waits for one small packet while the connection is being made, when the socket still blocks.
static void expect(struct device *device, int type) {
    uint8_t packet[64];
    size_t have = 0;
    while (have < 2 || have < 2u + packet[1]) {
        size_t rest = have < 2 ? 2 - have : 2u + packet[1] - have;
        have += stream_receive(device, packet + have, rest);
    }
    if (packet[0] >> 4 != type) fail("device %d: packet %d instead of %d", device->index, packet[0] >> 4, type);
    if (packet[1] > 0 && packet[1 + packet[1]] > 2) fail("device %d: refused with %d", device->index, packet[1 + packet[1]]);
}

static void connect_session(struct device *device) {
    stream_connect(device);
    uint8_t packet[256] = {0x10}, *out = packet + 2;
    out = put_text(out, "MQTT");
    *out++ = 4;
    // User name, clean session; no keep-alive.
    *out++ = 0x82;
    *out++ = 0;
    *out++ = 0;
    char name[32];
    snprintf(name, sizeof name, "load-%d", device->index);
    out = put_text(out, name);
    out = put_text(out, token(device));
    packet[1] = (uint8_t)(out - packet - 2);
    stream_send(device, packet, (size_t)(out - packet));
    expect(device, CONNACK);
}

static void subscribe(struct device *device, const char *filter) {
    uint8_t packet[256] = {0x82, 0, 0, 1}, *out = put_text(packet + 4, filter);
    *out++ = (uint8_t)options.qos;
    packet[1] = (uint8_t)(out - packet - 2);
    stream_send(device, packet, (size_t)(out - packet));
    expect(device, SUBACK);
}

static void publish(struct device *device, const char *topic, const void *payload, size_t size) {
    // One buffer for all, since nothing else happens meanwhile.
    static uint8_t packet[1 << 20];
    size_t length = 2 + strlen(topic) + (options.qos ? 2 : 0) + size;
    if (length + 8 > sizeof packet) fail("a payload of %zu bytes is too large", size);
    uint8_t *out = packet;
    *out++ = (uint8_t)(0x30 | options.qos << 1);
    out = put_length(out, length);
    out = put_text(out, topic);
    if (options.qos) {
        device->id = device->id % 65535 + 1;
        *out++ = (uint8_t)(device->id >> 8);
        *out++ = (uint8_t)device->id;
        device->awaits_acknowledgement = true;
    }
    memcpy(out, payload, size);
    stream_send(device, packet, (size_t)(out + size - packet));
}

// Takes in packets; `on_publish` gets those that carry content.
static size_t take_packet(struct device *device, void (*on_publish)(struct device *, const uint8_t *, size_t)) {
    if (device->have < 2) return 0;
    size_t length = 0, head = 1;
    for (int shift = 0;; shift += 7) {
        if (head == device->have) return 0;
        uint8_t byte = device->in[head++];
        length |= (size_t)(byte & 127) << shift;
        if (byte < 128) break;
    }
    if (device->have < head + length) return 0;
    const uint8_t *body = device->in + head;
    switch (device->in[0] >> 4) {
    case PUBLISH: {
        int qos = device->in[0] >> 1 & 3;
        if (qos != options.qos) fail("device %d: quality of service %d", device->index, qos);
        size_t topic = 2 + (size_t)(body[0] << 8 | body[1]), start = topic + (qos ? 2 : 0);
        if (qos) {
            uint8_t acknowledgement[] = {0x40, 2, body[topic], body[topic + 1]};
            stream_send(device, acknowledgement, sizeof acknowledgement);
        }
        on_publish(device, body + start, length - start);
        break;
    }
    case PUBACK:
        device->awaits_acknowledgement = false;
        break;
    default:
        fail("device %d: packet %d", device->index, device->in[0] >> 4);
    }
    return head + length;
}

// Chunks of a host of updates: one request, one answer.

static void connect_device(struct device *device) {
    connect_session(device);
    subscribe(device, "v2/fw/response/+/chunk/+");
}

static void begin_chunk(struct device *device) {
    char topic[64], size[24];
    snprintf(topic, sizeof topic, "v2/fw/request/1/chunk/%u", device->chunk);
    int count = snprintf(size, sizeof size, "%zu", options.size);
    device->awaits_content = true;
    publish(device, topic, size, (size_t)count);
}

static void on_chunk(struct device *device, const uint8_t *bytes, size_t count) {
    if (count != chunk_size(device->chunk)) fail("device %d: '%.*s'", device->index, (int)(count < 80 ? count : 80), bytes);
    check(device, bytes, count);
    device->awaits_content = false;
}

static size_t take_chunk(struct device *device) {
    size_t taken = take_packet(device, on_chunk);
    if (taken && !device->awaits_content && !device->awaits_acknowledgement) complete(device, chunk_size(device->chunk));
    return taken;
}

// The same payload through a broker: one connection publishes, the other is subscribed.

static void connect_pair(struct device *device) {
    connect_session(device);
    char topic[32];
    snprintf(topic, sizeof topic, "load/%d", device->index);
    if (device->index % 2 == 0) subscribe(device, topic);
}

static void begin_route(struct device *device) {
    char topic[32];
    snprintf(topic, sizeof topic, "load/%d", device->index);
    device->awaits_content = true;
    publish(partner(device), topic, options.file + device->chunk * options.size, chunk_size(device->chunk));
}

static size_t take_route(struct device *device) {
    size_t taken = take_packet(device, on_chunk);
    struct device *subscriber = device->index % 2 == 0 ? device : partner(device), *publisher = partner(subscriber);
    if (taken && !subscriber->awaits_content && !publisher->awaits_acknowledgement)
        complete(subscriber, chunk_size(subscriber->chunk));
    return taken;
}

// Reports, each acknowledged before the next.

static void begin_report(struct device *device) {
    const char *body = report(device);
    publish(device, "v1/devices/me/telemetry", body, strlen(body));
}

static void on_unexpected(struct device *device, const uint8_t *bytes, size_t count) {
    fail("device %d: a message: '%.*s'", device->index, (int)(count < 80 ? count : 80), bytes);
}

static size_t take_report(struct device *device) {
    size_t taken = take_packet(device, on_unexpected);
    if (taken && !device->awaits_acknowledgement) complete(device, 0);
    return taken;
}

const struct protocol mqtt_chunk = {
    .name = "mqtt-chunk", .connect = connect_device, .begin = begin_chunk, .take = take_chunk,
};
const struct protocol mqtt_route = {
    .name = "mqtt-route", .connect = connect_pair, .begin = begin_route, .take = take_route, .pairs = true,
};
const struct protocol mqtt_report = {
    .name = "mqtt-report", .connect = connect_session, .begin = begin_report, .take = take_report,
};
