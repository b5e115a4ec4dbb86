#include "load.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

enum { CONTENT = 0x45, URI_PATH = 11, BLOCK2 = 23 };

static void connect_datagrams(struct device *device) {
    device->fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (connect(device->fd, (struct sockaddr *)&options.server, sizeof options.server) < 0)
        fail("connect: %s", strerror(errno));
}

// RFC 7252 §3.1; `last` is the number of the option before.
static uint8_t *put_option(uint8_t *out, unsigned *last, unsigned number, const void *value, size_t count) {
    unsigned delta = number - *last;
    *last = number;
    *out++ = (uint8_t)((delta < 13 ? delta : 13) << 4 | (count < 13 ? count : 13));
    if (delta >= 13) *out++ = (uint8_t)(delta - 13);
    if (count >= 13) *out++ = (uint8_t)(count - 13);
    memcpy(out, value, count);
    return out + count;
}

// The size exponent of RFC 7959 §2.2.
static unsigned exponent(void) {
    unsigned exponent = 0;
    while ((16u << exponent) < options.size) exponent++;
    return exponent;
}

static void begin_block(struct device *device) {
    uint8_t *out = device->sent;
    device->id++;
    *out++ = 0x44;
    *out++ = 1;
    *out++ = (uint8_t)(device->id >> 8);
    *out++ = (uint8_t)device->id;
    // One token for one transfer.
    uint32_t token_value = (uint32_t)device->index;
    memcpy(out, &token_value, 4);
    out += 4;
    unsigned last = 0;
    if (options.path) {
        out = put_option(out, &last, URI_PATH, options.path, strlen(options.path));
    } else {
        out = put_option(out, &last, URI_PATH, "fw", 2);
        out = put_option(out, &last, URI_PATH, token(device), strlen(token(device)));
    }
    uint32_t block = device->chunk << 4 | exponent();
    uint8_t value[3] = {(uint8_t)(block >> 16), (uint8_t)(block >> 8), (uint8_t)block};
    size_t skip = block >= 1 << 16 ? 0 : block >= 1 << 8 ? 1 : 2;
    out = put_option(out, &last, BLOCK2, value + skip, 3 - skip);
    device->sent_size = (size_t)(out - device->sent);
    stream_send(device, device->sent, device->sent_size);
}

static size_t take_block(struct device *device) {
    const uint8_t *in = device->in, *end = in + device->have;
    size_t token_size = in[0] & 15;
    if (device->have < 4 + token_size) return device->have;
    if (in[1] == 0) return device->have;
    if ((in[0] >> 4 & 3) == 0) {
        uint8_t acknowledgement[] = {0x60, 0, in[2], in[3]};
        stream_send(device, acknowledgement, sizeof acknowledgement);
    } else if ((in[2] << 8 | in[3]) != device->id) {
        // The answer to a request that was repeated.
        return device->have;
    }
    if (in[1] != CONTENT) fail("device %d: code %d.%02d", device->index, in[1] >> 5, in[1] & 31);
    unsigned number = 0;
    int64_t block = -1;
    in += 4 + token_size;
    while (in < end && *in != 0xff) {
        unsigned delta = *in >> 4, count = *in & 15;
        in++;
        if (delta == 14) delta = 269 + (unsigned)(in[0] << 8 | in[1]), in += 2;
        else if (delta == 13) delta = 13 + *in++;
        if (count == 14) count = 269 + (unsigned)(in[0] << 8 | in[1]), in += 2;
        else if (count == 13) count = 13 + *in++;
        number += delta;
        if (number == BLOCK2) {
            block = 0;
            for (unsigned i = 0; i < count; i++) block = block << 8 | in[i];
        }
        in += count;
    }
    if (block < 0 || (block & 7) != exponent()) fail("device %d: no Block2, or another size", device->index);
    // Repeated by the server, which did not hear the acknowledgement in time.
    if (block >> 4 != device->chunk) return device->have;
    in += in < end;
    if ((size_t)(end - in) != chunk_size(device->chunk)) fail("device %d: a block of %td bytes", device->index, end - in);
    check(device, in, (size_t)(end - in));
    size_t taken = device->have;
    complete(device, (size_t)(end - in));
    return taken;
}

const struct protocol coap_block = {
    .name = "coap-block", .connect = connect_datagrams, .begin = begin_block, .take = take_block, .datagrams = true,
};
