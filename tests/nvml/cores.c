/* Preloaded into a program: it may use STANDIN_CORES cores, however many the machine has. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *mask) {
    const char *text = getenv("STANDIN_CORES");
    int count = text ? atoi(text) : 0;
    if (count <= 0) {
        long filled = syscall(SYS_sched_getaffinity, pid, size, mask);
        if (filled < 0) return -1;
        memset((char *)mask + filled, 0, size - (size_t)filled);
        return 0;
    }
    if ((size_t)count > size * 8) {
        errno = EINVAL;
        return -1;
    }
    memset(mask, 0, size);
    for (int core = 0; core < count; core++) CPU_SET_S(core, size, mask);
    return 0;
}
