// TUN and TAP devices: opening /dev/net/tun and attaching a descriptor to a device.
#include "common.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>

static std::string OpenHint(int error) {
  switch (error) {
    case EPERM:
    case EACCES:
      return "this takes the capability CAP_NET_ADMIN and permission to read and write /dev/net/tun "
             "(root has both; a container must be given the device)";
    case ENOENT:
    case ENODEV:
    case ENXIO:
      return "the kernel's tun module is missing: modprobe tun (a container must be given the device)";
    default:
      return "";
  }
}

static std::string AttachHint(int error, const std::string& mode) {
  switch (error) {
    case EBUSY:
      return "another process has the device";
    case EINVAL:
      return "an interface of this name exists and is no " + mode +
             " device, or is one with another multi-queue setting, or the name is not valid";
    case E2BIG:
      return "the device has as many queues as the kernel allows";
    default:
      return CapabilityHint(error, "CAP_NET_ADMIN");
  }
}

// openTun({ name, mode, multiQueue, vnetHeader, backlogBytes }). The device goes away with its last
// descriptor, also when the process is killed. An empty name, or one with %d, lets the kernel choose.
static Napi::Value OpenTun(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object options = ObjectArgument(info, 0, "options");
  std::string name = ToText(options.Get("name"), "name");
  std::string mode = ToText(options.Get("mode"), "mode");
  if (mode != "tun" && mode != "tap")
    throw Napi::TypeError::New(env, "mode: \"" + mode + "\" must be \"tun\" or \"tap\"");
  ifreq request = {};
  CopyInterfaceName(env, name, request.ifr_name);
  request.ifr_flags = static_cast<short>((mode == "tun" ? IFF_TUN : IFF_TAP) | IFF_NO_PI);
  if (ToBoolean(options.Get("multiQueue"), "multiQueue")) request.ifr_flags |= IFF_MULTI_QUEUE;
  if (ToBoolean(options.Get("vnetHeader"), "vnetHeader")) request.ifr_flags |= IFF_VNET_HDR;
  int backlogBytes = ToInteger(env, options.Get("backlogBytes"), "backlogBytes");
  if (backlogBytes < 0) throw Napi::RangeError::New(env, "backlogBytes: must not be negative");
  if (backlogBytes > 0) request.ifr_flags |= IFF_NAPI;

  Descriptor fd(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  std::string device = mode + " device " + (name.empty() ? "(named by the kernel)" : name);
  if (fd.get() < 0) {
    int error = errno;
    throw SystemError(env, error, "open", "opening /dev/net/tun for " + device, OpenHint(error));
  }
  if (ioctl(fd.get(), TUNSETIFF, &request) < 0) {
    int error = errno;
    throw SystemError(env, error, "ioctl TUNSETIFF", "attaching to " + device,
                      AttachHint(error, mode));
  }
  // The send buffer is all that bounds what waits to be received: it is 2 GiB.
  if (backlogBytes > 0 && ioctl(fd.get(), TUNSETSNDBUF, &backlogBytes) < 0) {
    int error = errno;
    throw SystemError(env, error, "ioctl TUNSETSNDBUF", "bounding the backlog of " + device);
  }
  auto result = Napi::Object::New(env);
  result.Set("name", Napi::String::New(env, request.ifr_name));
  result.Set("fd", Napi::Number::New(env, fd.get()));
  fd.release();
  return result;
}

// setTunOffload(fd, flags, headerBytes): headerBytes 0 leaves the size of the vnet header alone.
static void SetTunOffload(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int fd = IntegerArgument(info, 0, "fd");
  int flags = IntegerArgument(info, 1, "flags");
  int headerBytes = IntegerArgument(info, 2, "headerBytes");
  if (flags < 0) throw Napi::RangeError::New(env, "flags: must not be negative");
  if (headerBytes != 0 && ioctl(fd, TUNSETVNETHDRSZ, &headerBytes) < 0) {
    int error = errno;
    throw SystemError(env, error, "ioctl TUNSETVNETHDRSZ",
                      "setting a vnet header of " + std::to_string(headerBytes) + " bytes");
  }
  if (ioctl(fd, TUNSETOFFLOAD, static_cast<unsigned long>(flags)) < 0) {
    int error = errno;
    throw SystemError(env, error, "ioctl TUNSETOFFLOAD",
                      "setting offload flags " + std::to_string(flags));
  }
}

void InitTun(Napi::Env env, Napi::Object exports) {
  exports.Set("openTun", Napi::Function::New<OpenTun>(env, "openTun"));
  exports.Set("setTunOffload", Napi::Function::New<SetTunOffload>(env, "setTunOffload"));
}
