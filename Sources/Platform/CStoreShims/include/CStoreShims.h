// What Swift cannot call by itself.
#ifndef WINDLASS_CSTORESHIMS_H
#define WINDLASS_CSTORESHIMS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// Reads bytes that are in the page cache and never waits for a disk (man 2 preadv2, RWF_NOWAIT).
///
/// Returns how many bytes were read, which may be fewer than asked for, or -1 with errno set: EAGAIN if a disk would have to
/// be waited for, EOPNOTSUPP if the file system or the system cannot do this.
ssize_t windlass_pread_cached(int fd, void *bytes, size_t count, int64_t offset);

#endif
