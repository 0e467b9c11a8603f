// What the kernel says about a network interface, and its offloads, by ioctl; and a network namespace of
// one's own.
#include "common.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static std::string InterfaceHint(int error, const std::string& name) {
  if (error == ENODEV) return "this network namespace has no interface " + name;
  return CapabilityHint(error, "CAP_NET_ADMIN");
}

// One ioctl on the interface that `request` names; 0 or the errno.
static int InterfaceIoctl(unsigned long command, ifreq* request) {
  Descriptor fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return errno;
  return ioctl(fd.get(), command, request) < 0 ? errno : 0;
}

// A question about the interface that the first argument names, answered in the ifreq.
static ifreq Ask(const Napi::CallbackInfo& info, unsigned long command, const char* syscall,
                 const char* doing) {
  std::string name = ToText(info[0], "name");
  ifreq request = {};
  CopyInterfaceName(info.Env(), name, request.ifr_name);
  int error = InterfaceIoctl(command, &request);
  if (error != 0)
    throw SystemError(info.Env(), error, syscall, std::string(doing) + " of interface " + name,
                      InterfaceHint(error, name));
  return request;
}

// interfaceIndex(name)
static Napi::Value InterfaceIndex(const Napi::CallbackInfo& info) {
  ifreq request = Ask(info, SIOCGIFINDEX, "ioctl SIOCGIFINDEX", "reading the index");
  return Napi::Number::New(info.Env(), request.ifr_ifindex);
}

// interfaceMtu(name)
static Napi::Value InterfaceMtu(const Napi::CallbackInfo& info) {
  ifreq request = Ask(info, SIOCGIFMTU, "ioctl SIOCGIFMTU", "reading the MTU");
  return Napi::Number::New(info.Env(), request.ifr_mtu);
}

// interfaceMac(name): 6 bytes, undefined for an interface that is no Ethernet.
static Napi::Value InterfaceMac(const Napi::CallbackInfo& info) {
  ifreq request = Ask(info, SIOCGIFHWADDR, "ioctl SIOCGIFHWADDR", "reading the address");
  if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER) return info.Env().Undefined();
  auto mac = Napi::Uint8Array::New(info.Env(), 6);
  std::memcpy(mac.Data(), request.ifr_hwaddr.sa_data, 6);
  return mac;
}

// queueCount(name)
static Napi::Value QueueCount(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string name = ToText(info[0], "name");
  ifreq request = {};
  CopyInterfaceName(env, name, request.ifr_name);
  ethtool_channels channels = {};
  channels.cmd = ETHTOOL_GCHANNELS;
  request.ifr_data = reinterpret_cast<char*>(&channels);
  int error = InterfaceIoctl(SIOCETHTOOL, &request);
  if (error == EOPNOTSUPP) return Napi::Number::New(env, 1);
  if (error != 0)
    throw SystemError(env, error, "ioctl ETHTOOL_GCHANNELS",
                      "reading the queues of interface " + name, InterfaceHint(error, name));
  uint32_t queues = channels.rx_count + channels.combined_count;
  return Napi::Number::New(env, queues == 0 ? 1 : queues);
}

// setOffload(name, offload, on)
static void SetOffload(const Napi::CallbackInfo& info) {
  static constexpr struct {
    const char* name;
    uint32_t command;
  } kOffloads[] = {{"tx", ETHTOOL_STXCSUM},
                   {"rx", ETHTOOL_SRXCSUM},
                   {"tso", ETHTOOL_STSO},
                   {"gso", ETHTOOL_SGSO},
                   {"gro", ETHTOOL_SGRO}};
  Napi::Env env = info.Env();
  std::string name = ToText(info[0], "name");
  std::string offload = ToText(info[1], "offload");
  ethtool_value value = {0, ToBoolean(info[2], "on") ? 1u : 0u};
  for (const auto& known : kOffloads)
    if (offload == known.name) value.cmd = known.command;
  if (value.cmd == 0)
    throw Napi::TypeError::New(env, "offload: \"" + offload + "\" must be tx, rx, tso, gso or gro");
  ifreq request = {};
  CopyInterfaceName(env, name, request.ifr_name);
  request.ifr_data = reinterpret_cast<char*>(&value);
  int error = InterfaceIoctl(SIOCETHTOOL, &request);
  if (error == 0) return;
  throw SystemError(env, error, "ioctl SIOCETHTOOL",
                    std::string("switching ") + (value.data ? "on" : "off") + " offload " + offload +
                        " of interface " + name,
                    error == EOPNOTSUPP ? "the interface's driver does not let this be changed"
                                        : InterfaceHint(error, name));
}

// enterNewNetworkNamespace()
static void EnterNewNetworkNamespace(const Napi::CallbackInfo& info) {
  if (unshare(CLONE_NEWNET) == 0) return;
  int error = errno;
  throw SystemError(info.Env(), error, "unshare", "making a network namespace",
                    CapabilityHint(error, "CAP_SYS_ADMIN"));
}

void InitInterface(Napi::Env env, Napi::Object exports) {
  exports.Set("interfaceIndex", Napi::Function::New<InterfaceIndex>(env, "interfaceIndex"));
  exports.Set("interfaceMtu", Napi::Function::New<InterfaceMtu>(env, "interfaceMtu"));
  exports.Set("interfaceMac", Napi::Function::New<InterfaceMac>(env, "interfaceMac"));
  exports.Set("queueCount", Napi::Function::New<QueueCount>(env, "queueCount"));
  exports.Set("enterNewNetworkNamespace",
              Napi::Function::New<EnterNewNetworkNamespace>(env, "enterNewNetworkNamespace"));
  exports.Set("setOffload", Napi::Function::New<SetOffload>(env, "setOffload"));
}
