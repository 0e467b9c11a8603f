// Memory, the monotonic clock, wake-ups between threads, file locks, and waiting for descriptors.
#include "common.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

constexpr uintptr_t kHugePage = 2 << 20;

static uintptr_t RoundUp(uintptr_t value, uintptr_t unit) { return (value + unit - 1) / unit * unit; }

// mmap with the beginning at a huge page's boundary, if one fits.
static void* MapAligned(size_t bytes) {
  auto map = [](size_t size) {
    return mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  };
  if (bytes < kHugePage) return map(bytes);
  size_t kept = RoundUp(bytes, static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)));
  void* memory = map(kept + kHugePage);
  if (memory == MAP_FAILED) return memory;
  auto start = reinterpret_cast<uintptr_t>(memory);
  uintptr_t aligned = RoundUp(start, kHugePage);
  if (aligned > start) munmap(memory, aligned - start);
  size_t behind = start + kHugePage - aligned;
  if (behind > 0) munmap(reinterpret_cast<void*>(aligned + kept), behind);
  return reinterpret_cast<void*>(aligned);
}

// preferHugePages(memory)
static Napi::Value PreferHugePages(const Napi::CallbackInfo& info) {
  auto memory = SpanArgument<uint8_t>(info, 0, "memory");
  auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  auto start = RoundUp(reinterpret_cast<uintptr_t>(memory.data), page);
  uintptr_t end = (reinterpret_cast<uintptr_t>(memory.data) + memory.length) / page * page;
  return Napi::Boolean::New(
      info.Env(), start < end && madvise(reinterpret_cast<void*>(start), end - start, MADV_HUGEPAGE) == 0);
}

// mapMemory(bytes): zeroed pages of their own, unmapped when the ArrayBuffer is collected. Children of a
// fork do not inherit them: the kernel may be writing packets into them.
static Napi::Value MapMemory(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsNumber()) throw Napi::TypeError::New(env, "bytes: must be a number");
  double wanted = info[0].As<Napi::Number>().DoubleValue();
  if (!(wanted >= 1 && wanted < 4294967296.0) || wanted != static_cast<double>(static_cast<uint32_t>(wanted)))
    throw Napi::RangeError::New(env, "bytes: must be an integer from 1 to 4294967295");
  size_t bytes = static_cast<size_t>(wanted);
  std::string doing = "mapping " + std::to_string(bytes) + " bytes of memory";
  void* memory = MapAligned(bytes);
  if (memory == MAP_FAILED) throw SystemError(env, errno, "mmap", doing);
  if (madvise(memory, bytes, MADV_DONTFORK) < 0) {
    int error = errno;
    munmap(memory, bytes);
    throw SystemError(env, error, "madvise", doing);
  }
  return Napi::ArrayBuffer::New(
      env, memory, bytes,
      [](Napi::Env, void* data, void* size) { munmap(data, reinterpret_cast<size_t>(size)); },
      reinterpret_cast<void*>(bytes));
}

static void ReadInto(const Napi::CallbackInfo& info, clockid_t clock) {
  auto cell = SpanArgument<int32_t>(info, 0, "cell");
  if (cell.length < 2) throw Napi::RangeError::New(info.Env(), "cell: must have 2 elements");
  timespec now;
  clock_gettime(clock, &now);
  cell.data[0] = static_cast<int32_t>(now.tv_sec);
  cell.data[1] = static_cast<int32_t>(now.tv_nsec);
}

// readClock(cell)
static void ReadClock(const Napi::CallbackInfo& info) { ReadInto(info, CLOCK_MONOTONIC); }

// readThreadClock(cell)
static void ReadThreadClock(const Napi::CallbackInfo& info) {
  ReadInto(info, CLOCK_THREAD_CPUTIME_ID);
}

// sleepUntil(seconds, nanoseconds): the timer slack is for those who do not mind, here it is the shortest.
static void SleepUntil(const Napi::CallbackInfo& info) {
  timespec moment;
  moment.tv_sec = IntegerArgument(info, 0, "seconds");
  moment.tv_nsec = IntegerArgument(info, 1, "nanoseconds");
  if (moment.tv_sec < 0 || moment.tv_nsec < 0 || moment.tv_nsec > 999999999)
    throw Napi::RangeError::New(info.Env(), "nanoseconds: must be from 0 to 999999999");
  prctl(PR_SET_TIMERSLACK, 1);
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, nullptr) == EINTR) {
  }
}

static Napi::Value CreateEvent(const Napi::CallbackInfo& info) {
  int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) throw SystemError(info.Env(), errno, "eventfd", "making an event descriptor");
  return Napi::Number::New(info.Env(), fd);
}

// signalEvent(fd): EAGAIN means that the counter is full and so readable, which is what is wanted.
static void SignalEvent(const Napi::CallbackInfo& info) {
  int fd = IntegerArgument(info, 0, "fd");
  uint64_t one = 1;
  ssize_t result;
  do result = write(fd, &one, sizeof one);
  while (result < 0 && errno == EINTR);
  int error = errno;
  if (result < 0 && error != EAGAIN)
    throw SystemError(info.Env(), error, "write", "signalling event descriptor " + std::to_string(fd));
}

// clearEvent(fd): EAGAIN means that it was clear.
static void ClearEvent(const Napi::CallbackInfo& info) {
  int fd = IntegerArgument(info, 0, "fd");
  uint64_t value;
  ssize_t result;
  do result = read(fd, &value, sizeof value);
  while (result < 0 && errno == EINTR);
  int error = errno;
  if (result < 0 && error != EAGAIN)
    throw SystemError(info.Env(), error, "read", "clearing event descriptor " + std::to_string(fd));
}

// closeDescriptor(fd): the descriptor is gone even when close is interrupted, so that is no error.
static void CloseDescriptor(const Napi::CallbackInfo& info) {
  int fd = IntegerArgument(info, 0, "fd");
  if (close(fd) == 0) return;
  int error = errno;
  if (error != EINTR)
    throw SystemError(info.Env(), error, "close", "closing descriptor " + std::to_string(fd));
}

// lockFile(fd): false when somebody else has the lock.
static Napi::Value LockFile(const Napi::CallbackInfo& info) {
  int fd = IntegerArgument(info, 0, "fd");
  int result;
  do result = flock(fd, LOCK_EX | LOCK_NB);
  while (result < 0 && errno == EINTR);
  int error = errno;
  if (result < 0 && error != EWOULDBLOCK)
    throw SystemError(info.Env(), error, "flock", "locking descriptor " + std::to_string(fd));
  return Napi::Boolean::New(info.Env(), result == 0);
}

// wait(descriptors, ready, count, timeoutMs)
static Napi::Value Wait(const Napi::CallbackInfo& info) {
  constexpr int kMostDescriptors = 256;
  Napi::Env env = info.Env();
  auto descriptors = SpanArgument<int32_t>(info, 0, "descriptors");
  auto ready = SpanArgument<int16_t>(info, 1, "ready");
  int count = IntegerArgument(info, 2, "count");
  int timeout = IntegerArgument(info, 3, "timeoutMs");
  if (count < 0 || count > kMostDescriptors || static_cast<size_t>(count) > descriptors.length ||
      static_cast<size_t>(count) > ready.length)
    throw Napi::RangeError::New(env, "count: must fit both arrays and be at most 256");
  pollfd polled[kMostDescriptors];
  for (int i = 0; i < count; i++) polled[i] = {descriptors.data[i], POLLIN, 0};
  int result = poll(polled, static_cast<nfds_t>(count), timeout);
  if (result < 0) result = errno == EINTR ? 0 : -errno;
  for (int i = 0; i < count; i++) ready.data[i] = result > 0 ? polled[i].revents : 0;
  return Napi::Number::New(env, result);
}

void InitPoll(Napi::Env env, Napi::Object exports) {
  exports.Set("mapMemory", Napi::Function::New<MapMemory>(env, "mapMemory"));
  exports.Set("preferHugePages", Napi::Function::New<PreferHugePages>(env, "preferHugePages"));
  exports.Set("readClock", Napi::Function::New<ReadClock>(env, "readClock"));
  exports.Set("readThreadClock", Napi::Function::New<ReadThreadClock>(env, "readThreadClock"));
  exports.Set("sleepUntil", Napi::Function::New<SleepUntil>(env, "sleepUntil"));
  exports.Set("createEvent", Napi::Function::New<CreateEvent>(env, "createEvent"));
  exports.Set("signalEvent", Napi::Function::New<SignalEvent>(env, "signalEvent"));
  exports.Set("clearEvent", Napi::Function::New<ClearEvent>(env, "clearEvent"));
  exports.Set("closeDescriptor", Napi::Function::New<CloseDescriptor>(env, "closeDescriptor"));
  exports.Set("lockFile", Napi::Function::New<LockFile>(env, "lockFile"));
  exports.Set("wait", Napi::Function::New<Wait>(env, "wait"));
}
