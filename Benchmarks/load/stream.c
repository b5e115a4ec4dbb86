#include "load.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>

static SSL_CTX *context(void) {
    static SSL_CTX *shared;
    if (!shared) {
        shared = SSL_CTX_new(TLS_client_method());
        // The benchmark's own certificate, on loopback: who the server is is not in question.
        SSL_CTX_set_verify(shared, SSL_VERIFY_NONE, NULL);
        SSL_CTX_set_min_proto_version(shared, TLS1_3_VERSION);
        SSL_CTX_set_ciphersuites(shared, "TLS_AES_128_GCM_SHA256");
        SSL_CTX_set_mode(shared, SSL_MODE_RELEASE_BUFFERS);
    }
    return shared;
}

static void secure(struct device *device) {
    SSL *tls = SSL_new(context());
    SSL_set_fd(tls, device->fd);
    if (SSL_connect(tls) != 1) fail("TLS: %s", ERR_reason_error_string(ERR_get_error()));
    device->tls = tls;
}

static ssize_t tls_result(struct device *device, int result) {
    if (result > 0) return result;
    int error = SSL_get_error(device->tls, result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        errno = EAGAIN;
        return -1;
    }
    return error == SSL_ERROR_ZERO_RETURN ? 0 : (errno = EPROTO, -1);
}

static ssize_t put(struct device *device, const void *bytes, size_t count) {
    if (!device->tls) return send(device->fd, bytes, count, MSG_NOSIGNAL);
    return tls_result(device, SSL_write(device->tls, bytes, (int)count));
}

static ssize_t get(struct device *device, void *bytes, size_t room) {
    if (!device->tls) return recv(device->fd, bytes, room, 0);
    return tls_result(device, SSL_read(device->tls, bytes, (int)room));
}

bool stream_pending(struct device *device) { return device->tls && SSL_pending(device->tls) > 0; }
#else
static void secure(struct device *device) {
    (void)device;
    fail("built without TLS");
}

static ssize_t put(struct device *device, const void *bytes, size_t count) {
    return send(device->fd, bytes, count, MSG_NOSIGNAL);
}

static ssize_t get(struct device *device, void *bytes, size_t room) { return recv(device->fd, bytes, room, 0); }

bool stream_pending(struct device *device) {
    (void)device;
    return false;
}
#endif

void stream_connect(struct device *device) {
    device->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(device->fd, (struct sockaddr *)&options.server, sizeof options.server) < 0)
        fail("connect: %s", strerror(errno));
    int on = 1;
    setsockopt(device->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (options.tls) secure(device);
}

static void wait_for(struct device *device, short events) {
    struct pollfd wanted = {.fd = device->fd, .events = events};
    if (poll(&wanted, 1, 20000) == 0) fail("device %d: the server is silent for 20 s", device->index);
}

void stream_send(struct device *device, const void *bytes, size_t count) {
    // Never waits for long: what a device sends in one operation is less than a socket holds.
    while (count > 0) {
        ssize_t sent = put(device, bytes, count);
        if (sent < 0 && errno != EAGAIN) return lost(device, strerror(errno));
        if (sent < 0) {
            wait_for(device, POLLOUT);
            continue;
        }
        bytes = (const uint8_t *)bytes + sent;
        count -= (size_t)sent;
    }
}

size_t stream_receive(struct device *device, void *bytes, size_t room) {
    ssize_t count = get(device, bytes, room);
    if (count < 0 && errno == EAGAIN) return 0;
    if (count <= 0) {
        lost(device, count < 0 ? strerror(errno) : "the server closed the connection");
        return 0;
    }
    return (size_t)count;
}
