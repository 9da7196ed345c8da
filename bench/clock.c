#include "bench/clock.h"

#define CALIBRATION_NS 20000000
#define MOMENT_TRIES   16

static double ns_per_tick = 1;

/* Both clocks at one moment. */
struct moment {
    uint64_t ns;
    uint64_t ticks;
};

/* Of some tries the one with the least between the two readings: a thread that loses its processor
 * there would have them milliseconds apart. */
static struct moment moment_now(void)
{
    struct moment best = {0};
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < MOMENT_TRIES; i++) {
        uint64_t before = clock_ticks(), ns = clock_ns(), between = clock_ticks() - before;
        if (between < least) {
            least = between;
            best = (struct moment){ns, before};
        }
    }
    return best;
}

void clock_calibrate(void)
{
    struct moment first = moment_now();
    nanosleep(&(struct timespec){.tv_nsec = CALIBRATION_NS}, NULL);
    struct moment last = moment_now();
    ns_per_tick = (double)(last.ns - first.ns) / (double)(last.ticks - first.ticks);
}

uint64_t clock_ticks_to_ns(uint64_t ticks)
{
    return (uint64_t)((double)ticks * ns_per_tick);
}

uint64_t clock_ns_at(uint64_t ticks)
{
    struct moment now = moment_now();
    return now.ns - clock_ticks_to_ns(now.ticks - ticks);
}
