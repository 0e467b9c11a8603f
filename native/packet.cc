// Packet sockets, and batched reads and writes for every descriptor that takes a packet a call.
#include "common.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <sys/socket.h>

// Linux 4.20; older headers do not name it.
#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

// openPacketSocket({ interfaceIndex, protocol, ignoreOutgoing, promiscuous }). The socket has no protocol
// until it is bound, so that nothing of another interface is ever queued on it.
static Napi::Value OpenPacketSocket(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object options = ObjectArgument(info, 0, "options");
  int index = ToInteger(env, options.Get("interfaceIndex"), "interfaceIndex");
  int protocol = ToInteger(env, options.Get("protocol"), "protocol");
  bool ignoreOutgoing = ToBoolean(options.Get("ignoreOutgoing"), "ignoreOutgoing");
  bool promiscuous = ToBoolean(options.Get("promiscuous"), "promiscuous");
  if (index < 1) throw Napi::RangeError::New(env, "interfaceIndex: must be positive");
  if (protocol < 0 || protocol > 0xffff)
    throw Napi::RangeError::New(env, "protocol: must be from 0 to 65535");

  std::string doing = "opening a packet socket on interface " + std::to_string(index);
  Descriptor fd(socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) {
    int error = errno;
    throw SystemError(env, error, "socket", doing, CapabilityHint(error, "CAP_NET_RAW"));
  }
  int on = 1;
  if (ignoreOutgoing &&
      setsockopt(fd.get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) < 0) {
    int error = errno;
    throw SystemError(env, error, "setsockopt PACKET_IGNORE_OUTGOING", doing,
                      error == ENOPROTOOPT ? "Linux has this option since version 4.20" : "");
  }
  packet_mreq membership = {};
  membership.mr_ifindex = index;
  membership.mr_type = PACKET_MR_PROMISC;
  if (promiscuous && setsockopt(fd.get(), SOL_PACKET, PACKET_ADD_MEMBERSHIP, &membership,
                                sizeof membership) < 0) {
    int error = errno;
    throw SystemError(env, error, "setsockopt PACKET_ADD_MEMBERSHIP", doing);
  }
  sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = index;
  address.sll_protocol = htons(static_cast<uint16_t>(protocol));
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) {
    int error = errno;
    throw SystemError(env, error, "bind", doing);
  }
  return Napi::Number::New(env, fd.release());
}

// openRawSocket(family, protocol)
static Napi::Value OpenRawSocket(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int family = IntegerArgument(info, 0, "family");
  int protocol = IntegerArgument(info, 1, "protocol");
  int fd = socket(family == 6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
  if (fd < 0) {
    int error = errno;
    throw SystemError(env, error, "socket",
                      "opening a raw socket for IP protocol " + std::to_string(protocol),
                      CapabilityHint(error, "CAP_NET_RAW"));
  }
  return Napi::Number::New(env, fd);
}

// openUdpSocket(port): on all addresses of both families.
static Napi::Value OpenUdpSocket(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int port = IntegerArgument(info, 0, "port");
  if (port < 1 || port > 0xffff) throw Napi::RangeError::New(env, "port: must be from 1 to 65535");
  std::string doing = "opening UDP port " + std::to_string(port);
  Descriptor fd(socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) throw SystemError(env, errno, "socket", doing);
  int off = 0;
  if (setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) < 0)
    throw SystemError(env, errno, "setsockopt IPV6_V6ONLY", doing);
  sockaddr_in6 address = {};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(static_cast<uint16_t>(port));
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0)
    throw SystemError(env, errno, "bind", doing);
  return Napi::Number::New(env, fd.release());
}

// Both batched calls read each offset and length once, check it, and only then use it: the arrays may be
// shared with another thread.
[[noreturn]] static void RefuseOutside(Napi::Env env, int index, int64_t offset, int64_t length, size_t bytes) {
  throw Napi::RangeError::New(env, "packet " + std::to_string(index) + ": offset " +
                                       std::to_string(offset) + " and length " +
                                       std::to_string(length) + " are outside of the region's " +
                                       std::to_string(bytes) + " bytes");
}

static inline bool IsOutside(int64_t offset, int64_t length, size_t bytes) {
  return offset < 0 || length < 0 || offset + length > static_cast<int64_t>(bytes);
}

// readBatch(fd, region, offsets, lengths, count, maxLength)
static Napi::Value ReadBatch(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int fd = IntegerArgument(info, 0, "fd");
  auto region = SpanArgument<uint8_t>(info, 1, "region");
  auto offsets = SpanArgument<int32_t>(info, 2, "offsets");
  auto lengths = SpanArgument<int32_t>(info, 3, "lengths");
  int count = IntegerArgument(info, 4, "count");
  int maxLength = IntegerArgument(info, 5, "maxLength");
  if (count < 0 || static_cast<size_t>(count) > offsets.length ||
      static_cast<size_t>(count) > lengths.length)
    throw Napi::RangeError::New(env, "count: must fit both arrays");
  int done = 0;
  while (done < count) {
    int32_t offset = offsets.data[done];
    if (IsOutside(offset, maxLength, region.length))
      RefuseOutside(env, done, offset, maxLength, region.length);
    ssize_t length = read(fd, region.data + offset, static_cast<size_t>(maxLength));
    if (length < 0) {
      if (errno == EINTR) continue;
      if (done == 0 && errno != EAGAIN) return Napi::Number::New(env, -errno);
      break;
    }
    lengths.data[done++] = static_cast<int32_t>(length);
  }
  return Napi::Number::New(env, done);
}

// writeBatch(fd, region, offsets, lengths, first, count)
static Napi::Value WriteBatch(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int fd = IntegerArgument(info, 0, "fd");
  auto region = SpanArgument<uint8_t>(info, 1, "region");
  auto offsets = SpanArgument<int32_t>(info, 2, "offsets");
  auto lengths = SpanArgument<int32_t>(info, 3, "lengths");
  int first = IntegerArgument(info, 4, "first");
  int count = IntegerArgument(info, 5, "count");
  int64_t end = static_cast<int64_t>(first) + count;
  if (first < 0 || count < 0 || end > static_cast<int64_t>(offsets.length) ||
      end > static_cast<int64_t>(lengths.length))
    throw Napi::RangeError::New(env, "first and count: must fit both arrays");
  int done = 0;
  while (done < count) {
    int32_t offset = offsets.data[first + done];
    int32_t length = lengths.data[first + done];
    if (IsOutside(offset, length, region.length))
      RefuseOutside(env, first + done, offset, length, region.length);
    if (write(fd, region.data + offset, static_cast<size_t>(length)) < 0) {
      if (errno == EINTR) continue;
      if (done == 0) return Napi::Number::New(env, -errno);
      break;
    }
    done++;
  }
  return Napi::Number::New(env, done);
}

// setSocketOption(fd, level, option, value)
static Napi::Value SetSocketOption(const Napi::CallbackInfo& info) {
  int fd = IntegerArgument(info, 0, "fd");
  int level = IntegerArgument(info, 1, "level");
  int option = IntegerArgument(info, 2, "option");
  int value = IntegerArgument(info, 3, "value");
  if (setsockopt(fd, level, option, &value, sizeof(value)) < 0) {
    int error = errno;
    throw SystemError(
        info.Env(), error, "setsockopt",
        "setting option " + std::to_string(option) + " of level " + std::to_string(level),
        CapabilityHint(error, "CAP_NET_ADMIN"));
  }
  return info.Env().Undefined();
}

void InitPacket(Napi::Env env, Napi::Object exports) {
  exports.Set("openPacketSocket", Napi::Function::New<OpenPacketSocket>(env, "openPacketSocket"));
  exports.Set("openRawSocket", Napi::Function::New<OpenRawSocket>(env, "openRawSocket"));
  exports.Set("openUdpSocket", Napi::Function::New<OpenUdpSocket>(env, "openUdpSocket"));
  exports.Set("setSocketOption", Napi::Function::New<SetSocketOption>(env, "setSocketOption"));
  exports.Set("readBatch", Napi::Function::New<ReadBatch>(env, "readBatch"));
  exports.Set("writeBatch", Napi::Function::New<WriteBatch>(env, "writeBatch"));
}
