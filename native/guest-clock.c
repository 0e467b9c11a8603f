// Virtual time for a User-Mode Linux guest, preloaded into its kernel (/usr/bin/linux), which gets time from
// the host by clock_gettime and one POSIX timer, and idles in sigsuspend until that timer's SIGALRM.
//
//   - While the guest computes, its clock runs slower than the host's, by a factor that it can choose.
//   - When it goes idle, the clock jumps to the moment its timer is set to, and SIGALRM is there at once.
//
// So an hour of sleep takes as long as the guest's work within it, and what the guest does at a moment costs
// next to nothing of its time. Timers of the guest still fire one after the other, each at its moment.
//
// The guest's programs call this library by looking for a file that does not exist, `uvs-guest-clock:CALL`,
// on a hostfs (the kernel asks the host by lstat):
//   slow:N      the clock runs N times slower than the host's from now on
//   ask:TEXT    sends TEXT and a line feed down the channel (the descriptor in UVS_GUEST_CHANNEL), and stops
//               guest and clock until a byte comes back. At its end the guest's process group is killed.
//
// The kernel calls from one thread, and takes signals only where its own flag allows it, so there is no lock.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const int64_t kSecond = 1000000000;
static const char kPrefix[] = "uvs-guest-clock:";

// The guest's clock shows `shown` at the host's `since`, and from there goes on at 1/slowness.
static int64_t since, shown, slowness = 1;
static int64_t realtimeOffset;

static timer_t timer;
static int armed;
static int64_t deadline, interval;  // on the guest's clock

static int64_t ToNanoseconds(struct timespec time) { return time.tv_sec * kSecond + time.tv_nsec; }

static struct timespec ToTimespec(int64_t nanoseconds) {
  return (struct timespec){.tv_sec = nanoseconds / kSecond, .tv_nsec = nanoseconds % kSecond};
}

static void* Real(const char* name) {
  void* function = dlsym(RTLD_NEXT, name);
  if (!function) abort();
  return function;
}

// By the C library, which needs no system call for it.
static int (*hostClock)(clockid_t, struct timespec*);

static int64_t HostClock(clockid_t clock) {
  struct timespec time;
  hostClock(clock, &time);
  return ToNanoseconds(time);
}

static int64_t Now(void) { return shown + (HostClock(CLOCK_MONOTONIC) - since) / slowness; }

static void SetClock(int64_t time) {
  since = HostClock(CLOCK_MONOTONIC);
  shown = time;
}

__attribute__((constructor)) static void Start(void) {
  hostClock = Real("clock_gettime");
  SetClock(HostClock(CLOCK_MONOTONIC));
  realtimeOffset = HostClock(CLOCK_REALTIME) - shown;
  // Whoever started the guest may die without a word, and then the guest shall not stay.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
}

// The same for the kernel's helpers, which it clones.
struct Helper {
  int (*function)(void*);
  void* argument;
};

static int StartHelper(void* helper) {
  struct Helper own = *(struct Helper*)helper;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  return own.function(own.argument);
}

int clone(int (*function)(void*), void* stack, int flags, void* argument, ...) {
  static int (*real)(int (*)(void*), void*, int, void*, ...);
  // A helper that shares memory may read its slot late, but not as late as that.
  static struct Helper slots[256];
  static unsigned next;
  if (!real) real = Real("clone");
  struct Helper* slot = &slots[next++ % 256];
  *slot = (struct Helper){function, argument};
  return real(StartHelper, stack, flags, slot);
}

int clock_gettime(clockid_t clock, struct timespec* time) {
  if (clock == CLOCK_MONOTONIC)
    *time = ToTimespec(Now());
  else if (clock == CLOCK_REALTIME)
    *time = ToTimespec(Now() + realtimeOffset);
  else
    return hostClock(clock, time);
  return 0;
}

// The host's timer only serves a guest that does not go idle for as long as its timer is set to. It may be early:
// the guest then finds that nothing is due and sets its timer again. So it is set only where it would be late.
static void SetHostTimer(void) {
  static int (*real)(timer_t, int, const struct itimerspec*, struct itimerspec*);
  static int64_t alarmAt, alarmInterval;  // on the host's clock
  if (!armed) return;
  if (!real) real = Real("timer_settime");
  int64_t now = HostClock(CLOCK_MONOTONIC);
  int64_t left = (deadline - Now()) * slowness;
  int64_t wanted = now + (left > 0 ? left : 1);
  if (now < alarmAt && alarmAt <= wanted && alarmInterval == interval * slowness) return;
  alarmAt = wanted;
  alarmInterval = interval * slowness;
  struct itimerspec setting = {.it_interval = ToTimespec(alarmInterval), .it_value = ToTimespec(wanted)};
  real(timer, TIMER_ABSTIME, &setting, NULL);
}

int timer_create(clockid_t clock, struct sigevent* event, timer_t* created) {
  static int (*real)(clockid_t, struct sigevent*, timer_t*);
  if (!real) real = Real("timer_create");
  int result = real(clock, event, created);
  timer = *created;
  return result;
}

int timer_settime(timer_t which, int flags, const struct itimerspec* setting, struct itimerspec* old) {
  (void)which;
  if (old) abort();  // no kernel asks for it
  int64_t value = ToNanoseconds(setting->it_value);
  interval = ToNanoseconds(setting->it_interval);
  armed = value > 0;
  deadline = flags & TIMER_ABSTIME ? value : Now() + value;
  SetHostTimer();
  return 0;
}

int timer_gettime(timer_t which, struct itimerspec* setting) {
  (void)which;
  int64_t left = 0;
  if (armed) {
    int64_t now = Now();
    if (interval > 0 && deadline <= now) deadline += ((now - deadline) / interval + 1) * interval;
    left = deadline > now ? deadline - now : 0;
  }
  setting->it_value = ToTimespec(left);
  setting->it_interval = ToTimespec(interval);
  return 0;
}

// The guest goes idle. It has blocked SIGALRM and waits for it with the mask of before.
int sigsuspend(const sigset_t* mask) {
  static int (*real)(const sigset_t*);
  if (!real) real = Real("sigsuspend");
  if (armed) {
    if (deadline > Now()) SetClock(deadline);
    deadline += interval;
    armed = interval > 0;
    SetHostTimer();
    raise(SIGALRM);
  }
  return real(mask);
}

static void Ask(const char* text) {
  const char* channel = getenv("UVS_GUEST_CHANNEL");
  if (!channel) return;
  int fd = atoi(channel);
  int64_t time = Now();
  size_t length = strlen(text);
  char line[length + 1];
  memcpy(line, text, length);
  line[length] = '\n';
  for (size_t sent = 0; sent < sizeof line;) {
    ssize_t result = write(fd, line + sent, sizeof line - sent);
    if (result > 0) sent += (size_t)result;
    else if (errno != EINTR) kill(0, SIGKILL);
  }
  char answer;
  ssize_t result;
  do result = read(fd, &answer, 1);
  while (result < 0 && errno == EINTR);
  if (result != 1) kill(0, SIGKILL);
  SetClock(time);
  SetHostTimer();
}

int lstat64(const char* path, struct stat64* status) {
  static int (*real)(const char*, struct stat64*);
  if (!real) real = Real("lstat64");
  const char* name = strrchr(path, '/');
  if (!name || strncmp(name + 1, kPrefix, sizeof kPrefix - 1) != 0) return real(path, status);
  const char* call = name + sizeof kPrefix;
  if (strncmp(call, "slow:", 5) == 0 && atoll(call + 5) > 0) {
    SetClock(Now());
    slowness = atoll(call + 5);
    SetHostTimer();
  } else if (strncmp(call, "ask:", 4) == 0) {
    Ask(call + 4);
  }
  errno = ENOENT;
  return -1;
}
