// What Swift cannot call by itself.
#ifndef WINDLASS_CSYSTEMSHIMS_H
#define WINDLASS_CSYSTEMSHIMS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// Reads bytes that are in the page cache and never waits for a disk (man 2 preadv2, RWF_NOWAIT).
///
/// Returns how many bytes were read, which may be fewer than asked for, or -1 with errno set: EAGAIN if a disk would have to
/// be waited for, EOPNOTSUPP if the file system or the system cannot do this.
ssize_t windlass_pread_cached(int fd, void *bytes, size_t count, int64_t offset);

/// Makes memory of 4 MiB and more go back to the system as soon as it is freed (man 3 mallopt); does nothing where the
/// allocator has no such setting.
void windlass_return_large_memory(void);

/// Lets SQLite not count the memory that it has, for which each allocation takes a lock (sqlite.org/malloc.html, "Memory
/// Allocation Statistics"); does nothing once the process has opened a database.
void windlass_sqlite_without_memory_counts(void);

/// How many processors this process may run on (man 2 sched_getaffinity); 0 where that cannot be found out.
int windlass_processors(void);

#endif
