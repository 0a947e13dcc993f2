/* Preloaded into a platform's processes: the time of day moved by as many seconds as the file MOVED_CLOCK says now.
 * Clocks that count (CLOCK_MONOTONIC) are left alone, as by a machine that sleeps. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *moved_s;

__attribute__((constructor)) static void open_file(void)
{
    const char *path = getenv("MOVED_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *page = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *moved_s, PROT_READ, MAP_SHARED, file, 0);
    if (file >= 0)
        close(file);
    if (page != MAP_FAILED)
        moved_s = page;
}

static int64_t moved(void)
{
    return moved_s ? *moved_s : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += moved();
    return failed;
}

int gettimeofday(struct timeval *now, void *zone)
{
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (result)
        *result = exact.tv_sec;
    return exact.tv_sec;
}

int timespec_get(struct timespec *now, int base)
{
    return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, now) ? base : 0;
}

/* Waits until a time of day: the kernel's own. Times of a clock that counts since the machine was started are small. */
static struct timespec kernels(const struct timespec *until)
{
    struct timespec own = *until;
    if (own.tv_sec > 1000000000)
        own.tv_sec -= moved();
    return own;
}

static void *next(const char *name, const char *version)
{
    void *found = dlvsym(RTLD_NEXT, name, version);
    return found ? found : dlsym(RTLD_NEXT, name);
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until)
{
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    struct timespec own = kernels(until);
    if (!real)
        real = next("pthread_cond_timedwait", "GLIBC_2.3.2"); /* the older one of that name takes another condition */
    return real(condition, mutex, &own);
}

int sem_timedwait(sem_t *semaphore, const struct timespec *until)
{
    static int (*real)(sem_t *, const struct timespec *);
    struct timespec own = kernels(until);
    if (!real)
        real = next("sem_timedwait", "GLIBC_2.34");
    return real(semaphore, &own);
}

int pthread_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *until)
{
    static int (*real)(pthread_mutex_t *, const struct timespec *);
    struct timespec own = kernels(until);
    if (!real)
        real = next("pthread_mutex_timedlock", "GLIBC_2.34");
    return real(mutex, &own);
}

int cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *until)
{
    static int (*real)(cnd_t *, mtx_t *, const struct timespec *);
    struct timespec own = kernels(until);
    if (!real)
        real = next("cnd_timedwait", "GLIBC_2.34");
    return real(condition, mutex, &own);
}
