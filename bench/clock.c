#include "bench/clock.h"

#define CALIBRATION_NS 20000000
#define MOMENT_NS      1000

static double ns_per_tick = 1;

void clock_calibrate(void)
{
    uint64_t ns = clock_ns(), ticks = clock_ticks();
    nanosleep(&(struct timespec){.tv_nsec = CALIBRATION_NS}, NULL);
    ns = clock_ns() - ns;
    ticks = clock_ticks() - ticks;
    ns_per_tick = (double)ns / (double)ticks;
}

uint64_t clock_ticks_to_ns(uint64_t ticks)
{
    return (uint64_t)((double)ticks * ns_per_tick);
}

uint64_t clock_ns_at(uint64_t ticks)
{
    for (;;) {
        uint64_t before = clock_ticks(), ns = clock_ns(), after = clock_ticks();
        if (clock_ticks_to_ns(after - before) <= MOMENT_NS) /* nothing came between them */
            return ns - clock_ticks_to_ns(before - ticks);
    }
}
