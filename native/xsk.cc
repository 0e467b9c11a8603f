// AF_XDP sockets: a UMEM over the caller's memory, the four rings as memory, and the kicks.
#include "common.h"

#include <linux/if_xdp.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <memory>

// Older C libraries do not name them.
#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif
#ifndef XDP_MAX_TX_SKB_BUDGET
#define XDP_MAX_TX_SKB_BUDGET 9
#endif

template <>
struct ElementType<double> {
  static constexpr napi_typedarray_type type = napi_float64_array;
  static constexpr const char* name = "Float64Array";
};

namespace {

// All four rings of a socket, one behind the other. The mappings keep the socket alive in the kernel, bound
// to its queue, beyond the closing of its descriptor: so closing means unmapping first, and not whenever
// the memory happens to be collected.
class RingMemory {
 public:
  RingMemory() = default;
  ~RingMemory() { Unmap(); }
  RingMemory(const RingMemory&) = delete;
  RingMemory& operator=(const RingMemory&) = delete;

  bool Reserve(size_t bytes) {
    void* base = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return false;
    base_ = static_cast<uint8_t*>(base);
    bytes_ = bytes;
    return true;
  }
  void Unmap() {
    if (base_) munmap(base_, bytes_);
    base_ = nullptr;
  }
  uint8_t* base() const { return base_; }
  size_t bytes() const { return bytes_; }

 private:
  uint8_t* base_ = nullptr;
  size_t bytes_ = 0;
};

struct RingKind {
  const char* name;
  int option;
  off_t page;
  size_t descriptorBytes;
  xdp_ring_offset xdp_mmap_offsets::* offsets;
};

constexpr RingKind kRings[] = {
    {"rx", XDP_RX_RING, XDP_PGOFF_RX_RING, sizeof(xdp_desc), &xdp_mmap_offsets::rx},
    {"tx", XDP_TX_RING, XDP_PGOFF_TX_RING, sizeof(xdp_desc), &xdp_mmap_offsets::tx},
    {"fill", XDP_UMEM_FILL_RING, static_cast<off_t>(XDP_UMEM_PGOFF_FILL_RING), sizeof(uint64_t),
     &xdp_mmap_offsets::fr},
    {"completion", XDP_UMEM_COMPLETION_RING, static_cast<off_t>(XDP_UMEM_PGOFF_COMPLETION_RING),
     sizeof(uint64_t), &xdp_mmap_offsets::cr},
};

size_t RoundUpToPages(size_t bytes) {
  size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

std::string SocketHint(int error) {
  if (error == EAFNOSUPPORT || error == EPROTONOSUPPORT || error == ESOCKTNOSUPPORT)
    return "the kernel has no XDP sockets: they take Linux 4.18 with CONFIG_XDP_SOCKETS";
  return CapabilityHint(error, "CAP_NET_RAW");
}

std::string UmemHint(int error) {
  switch (error) {
    case ENOBUFS:
    case ENOMEM:
      return "the memory has to stay locked: raise the limit (ulimit -l), or give the process the "
             "capability CAP_IPC_LOCK";
    case EINVAL:
      return "frames must be 2048 bytes or one page long, with room behind the headroom";
    case ENOPROTOOPT:
      return "XDP sockets take Linux 4.18";
    default:
      return CapabilityHint(error, "CAP_NET_RAW");
  }
}

std::string BindHint(int error, bool shares) {
  switch (error) {
    case EBUSY:
      return "another program's or another thread's XDP socket has this queue";
    case ENODEV:
      return "this network namespace has no such interface";
    case EINVAL:
      return shares ? "the interface has no such queue, or the kernel cannot share a UMEM between "
                      "interfaces and queues, which takes Linux 5.10"
                    : "the interface has no such queue, or the kernel does not know a flag "
                      "(XDP_USE_NEED_WAKEUP takes Linux 5.4)";
    case EOPNOTSUPP:
      return shares ? "the UMEM's first socket is zero-copy, which this interface's driver is not: "
                      "use copy mode for all"
                    : "the interface's driver does not support the mode that was asked for";
    case ENETDOWN:
      return "the interface is down";
    default:
      return CapabilityHint(error, "CAP_NET_RAW");
  }
}

}  // namespace

// openXdpSocket(options): see XdpSocketOptions in src/kernel/native.ts.
static Napi::Value OpenXdpSocket(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object options = ObjectArgument(info, 0, "options");
  int interfaceIndex = ToInteger(env, options.Get("interfaceIndex"), "interfaceIndex");
  int queue = ToInteger(env, options.Get("queue"), "queue");
  int frameSize = ToInteger(env, options.Get("frameSize"), "frameSize");
  int headroom = ToInteger(env, options.Get("headroom"), "headroom");
  int ringSize = ToInteger(env, options.Get("ringSize"), "ringSize");
  int shareWith = ToInteger(env, options.Get("shareWith"), "shareWith");
  int bindFlags = ToInteger(env, options.Get("bindFlags"), "bindFlags");
  Napi::Value regionValue = options.Get("region");
  napi_typedarray_type regionType;
  size_t regionBytes;
  void* region;
  if (napi_get_typedarray_info(env, regionValue, &regionType, &regionBytes, &region, nullptr,
                               nullptr) != napi_ok ||
      regionType != napi_uint8_array)
    throw Napi::TypeError::New(env, "region: must be of type Uint8Array");
  if (interfaceIndex < 1) throw Napi::RangeError::New(env, "interfaceIndex: must be positive");
  if (queue < 0) throw Napi::RangeError::New(env, "queue: must not be negative");
  if (headroom < 0) throw Napi::RangeError::New(env, "headroom: must not be negative");
  if (ringSize < 1 || ringSize > (1 << 20) || (ringSize & (ringSize - 1)) != 0)
    throw Napi::RangeError::New(env, "ringSize: must be a power of two, at most 1048576");
  if (frameSize < 2048 || (frameSize & (frameSize - 1)) != 0 ||
      frameSize > static_cast<int>(sysconf(_SC_PAGESIZE)))
    throw Napi::RangeError::New(env, "frameSize: must be a power of two from 2048 to the page size");
  if (regionBytes == 0 || reinterpret_cast<uintptr_t>(region) % sysconf(_SC_PAGESIZE) != 0)
    throw Napi::RangeError::New(env, "region: must begin at a page boundary (use mapMemory)");
  if (regionBytes % static_cast<size_t>(frameSize) != 0)
    throw Napi::RangeError::New(env, "region: must hold a whole number of frames");

  std::string doing = "opening an XDP socket on interface " + std::to_string(interfaceIndex) +
                      " queue " + std::to_string(queue);
  Descriptor fd(socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) {
    int error = errno;
    throw SystemError(env, error, "socket AF_XDP", doing, SocketHint(error));
  }

  if (shareWith < 0) {
    xdp_umem_reg umem;
    std::memset(&umem, 0, sizeof umem);
    umem.addr = reinterpret_cast<uintptr_t>(region);
    umem.len = regionBytes;
    umem.chunk_size = static_cast<uint32_t>(frameSize);
    umem.headroom = static_cast<uint32_t>(headroom);
    if (setsockopt(fd.get(), SOL_XDP, XDP_UMEM_REG, &umem, sizeof umem) < 0) {
      int error = errno;
      throw SystemError(env, error, "setsockopt XDP_UMEM_REG", doing, UmemHint(error));
    }
  }
  for (const RingKind& kind : kRings)
    if (setsockopt(fd.get(), SOL_XDP, kind.option, &ringSize, sizeof ringSize) < 0) {
      int error = errno;
      throw SystemError(env, error, "setsockopt", doing + ", making its " + kind.name + " ring");
    }

  // As many frames as there may be leave in one call. Before Linux 6.17, which refuses, it is 32 in copy mode.
  setsockopt(fd.get(), SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &ringSize, sizeof ringSize);

  xdp_mmap_offsets offsets = {};
  socklen_t length = sizeof offsets;
  if (getsockopt(fd.get(), SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &length) < 0)
    throw SystemError(env, errno, "getsockopt XDP_MMAP_OFFSETS", doing);
  // Without the rings' flags the kernel answers with a shorter structure.
  if (length != sizeof offsets)
    throw SystemError(env, ENOTSUP, "getsockopt XDP_MMAP_OFFSETS", doing,
                      "rings that say when they need a kick take Linux 5.4");

  size_t sizes[4];
  size_t starts[4];
  size_t bytes = 0;
  for (int i = 0; i < 4; i++) {
    sizes[i] = (offsets.*kRings[i].offsets).desc +
               static_cast<size_t>(ringSize) * kRings[i].descriptorBytes;
    starts[i] = bytes;
    bytes += RoundUpToPages(sizes[i]);
  }
  auto memory = std::make_shared<RingMemory>();
  if (!memory->Reserve(bytes)) throw SystemError(env, errno, "mmap", doing);
  for (int i = 0; i < 4; i++)
    if (mmap(memory->base() + starts[i], sizes[i], PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_POPULATE | MAP_FIXED, fd.get(), kRings[i].page) == MAP_FAILED)
      throw SystemError(env, errno, "mmap", doing + ", mapping its " + kRings[i].name + " ring");
  // A child process would keep the socket bound for as long as it has the rings mapped.
  if (madvise(memory->base(), bytes, MADV_DONTFORK) < 0)
    throw SystemError(env, errno, "madvise", doing);

  sockaddr_xdp address = {};
  address.sxdp_family = AF_XDP;
  address.sxdp_ifindex = static_cast<uint32_t>(interfaceIndex);
  address.sxdp_queue_id = static_cast<uint32_t>(queue);
  // A socket that shares takes the mode over from the first and may not name one.
  address.sxdp_flags = shareWith < 0 ? static_cast<uint16_t>(bindFlags) : XDP_SHARED_UMEM;
  address.sxdp_shared_umem_fd = shareWith < 0 ? 0 : static_cast<uint32_t>(shareWith);
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) {
    int error = errno;
    throw SystemError(env, error, "bind", doing, BindHint(error, shareWith >= 0));
  }
  xdp_options bound = {};
  length = sizeof bound;
  if (getsockopt(fd.get(), SOL_XDP, XDP_OPTIONS, &bound, &length) < 0)
    throw SystemError(env, errno, "getsockopt XDP_OPTIONS", doing);

  auto buffer = Napi::ArrayBuffer::New(
      env, memory->base(), bytes,
      [](Napi::Env, void*, std::shared_ptr<RingMemory>* holder) { delete holder; },
      new std::shared_ptr<RingMemory>(memory));
  auto socket = Napi::Object::New(env);
  socket.Set("memory", buffer);
  for (int i = 0; i < 4; i++) {
    const xdp_ring_offset& at = offsets.*kRings[i].offsets;
    auto ring = Napi::Object::New(env);
    ring.Set("producer", Napi::Number::New(env, starts[i] + at.producer));
    ring.Set("consumer", Napi::Number::New(env, starts[i] + at.consumer));
    ring.Set("flags", Napi::Number::New(env, starts[i] + at.flags));
    ring.Set("descriptors", Napi::Number::New(env, starts[i] + at.desc));
    ring.Set("size", Napi::Number::New(env, ringSize));
    socket.Set(kRings[i].name, ring);
  }
  socket.Set("zeroCopy", Napi::Boolean::New(env, (bound.flags & XDP_OPTIONS_ZEROCOPY) != 0));
  int number = fd.get();
  socket.Set("close", Napi::Function::New(
                          env,
                          [memory, number](const Napi::CallbackInfo& info) {
                            if (!memory->base()) return;
                            Napi::Value held = info.This().IsObject()
                                                   ? info.This().As<Napi::Object>().Get("memory")
                                                   : info.Env().Undefined();
                            if (!held.IsArrayBuffer() ||
                                held.As<Napi::ArrayBuffer>().Data() != memory->base())
                              throw Napi::TypeError::New(info.Env(),
                                                         "close: must be called on its XDP socket");
                            // Views of the rings are empty from here on, instead of pointing nowhere.
                            held.As<Napi::ArrayBuffer>().Detach();
                            memory->Unmap();
                            close(number);
                          },
                          "close"));
  socket.Set("fd", Napi::Number::New(env, fd.release()));
  return socket;
}

// kickTransmit(fd)
static Napi::Value KickTransmit(const Napi::CallbackInfo& info) {
  int fd = IntegerArgument(info, 0, "fd");
  ssize_t result = sendto(fd, nullptr, 0, MSG_DONTWAIT, nullptr, 0);
  return Napi::Number::New(info.Env(), result < 0 ? -errno : 0);
}

// kickReceive(fd)
static Napi::Value KickReceive(const Napi::CallbackInfo& info) {
  int fd = IntegerArgument(info, 0, "fd");
  ssize_t result = recvfrom(fd, nullptr, 0, MSG_DONTWAIT, nullptr, nullptr);
  return Napi::Number::New(info.Env(), result < 0 ? -errno : 0);
}

// xdpStatistics(fd, into)
static void XdpStatistics(const Napi::CallbackInfo& info) {
  int fd = IntegerArgument(info, 0, "fd");
  auto into = SpanArgument<double>(info, 1, "into");
  if (into.length < 6) throw Napi::RangeError::New(info.Env(), "into: must have 6 elements");
  // Before Linux 5.9 there were three counters; the others stay 0 there.
  xdp_statistics statistics = {};
  socklen_t length = sizeof statistics;
  if (getsockopt(fd, SOL_XDP, XDP_STATISTICS, &statistics, &length) < 0)
    throw SystemError(info.Env(), errno, "getsockopt XDP_STATISTICS",
                      "reading the counters of XDP socket " + std::to_string(fd));
  const uint64_t values[6] = {statistics.rx_dropped,   statistics.rx_invalid_descs,
                              statistics.tx_invalid_descs, statistics.rx_ring_full,
                              statistics.rx_fill_ring_empty_descs, statistics.tx_ring_empty_descs};
  for (int i = 0; i < 6; i++) into.data[i] = static_cast<double>(values[i]);
}

void InitXsk(Napi::Env env, Napi::Object exports) {
  exports.Set("openXdpSocket", Napi::Function::New<OpenXdpSocket>(env, "openXdpSocket"));
  exports.Set("kickTransmit", Napi::Function::New<KickTransmit>(env, "kickTransmit"));
  exports.Set("kickReceive", Napi::Function::New<KickReceive>(env, "kickReceive"));
  exports.Set("xdpStatistics", Napi::Function::New<XdpStatistics>(env, "xdpStatistics"));
}
