#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "CSystemShims.h"

#include <errno.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <sched.h>
#include <sqlite3.h>
#include <sys/uio.h>

ssize_t windlass_pread_cached(int fd, void *bytes, size_t count, int64_t offset) {
#if defined(__linux__) && defined(RWF_NOWAIT)
    struct iovec vector = {.iov_base = bytes, .iov_len = count};
    return preadv2(fd, &vector, 1, (off_t)offset, RWF_NOWAIT);
#else
    (void)fd, (void)bytes, (void)count, (void)offset;
    errno = EOPNOTSUPP;
    return -1;
#endif
}

void windlass_return_large_memory(void) {
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 4 << 20);
    mallopt(M_TRIM_THRESHOLD, 4 << 20);
#endif
}

void windlass_sqlite_without_memory_counts(void) {
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

int windlass_processors(void) {
#ifdef CPU_COUNT
    cpu_set_t processors;
    return sched_getaffinity(0, sizeof processors, &processors) == 0 ? CPU_COUNT(&processors) : 0;
#else
    return 0;
#endif
}
