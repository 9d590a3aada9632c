/* Timed waits on 32-bit targets, linked with --wrap=syscall.
 *
 * Rust's standard library calls the old futex call with its `struct timespec`. Since that has 64-bit times, as musl's
 * has had since 1.2, the old call reads the upper half of the seconds as nanoseconds: every wait would end up to a
 * second early. The call that takes 64-bit times came with Linux 5.1; before it the time is narrowed. */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <time.h>

#define FUTEX 240 /* on ARM and i386 alike */
#define FUTEX_TIME64 422
#define FUTEX_WAIT 0
#define FUTEX_WAIT_BITSET 9
#define FUTEX_OPERATION 0x7f /* without FUTEX_PRIVATE_FLAG and FUTEX_CLOCK_REALTIME */

long __real_syscall(long, ...);

long __wrap_syscall(long number, ...) {
  long a[6];
  va_list list;
  va_start(list, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
  va_end(list);
  long operation = a[1] & FUTEX_OPERATION;
  if (number != FUTEX || !a[3] || (operation != FUTEX_WAIT && operation != FUTEX_WAIT_BITSET))
    return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  /* The kernel's 64-bit timespec has 64 bits of nanoseconds, of which it reads 32 in a 32-bit program. */
  const struct timespec *time = (const struct timespec *)a[3];
  long long wide[2] = {time->tv_sec, time->tv_nsec};
  long result = __real_syscall(FUTEX_TIME64, a[0], a[1], a[2], wide, a[4], a[5]);
  if (result != -1 || errno != ENOSYS) return result;
  long narrow[2] = {time->tv_sec > LONG_MAX ? LONG_MAX : (long)time->tv_sec, time->tv_nsec};
  return __real_syscall(FUTEX, a[0], a[1], a[2], narrow, a[4], a[5]);
}
