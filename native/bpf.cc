// The bpf() system call: maps, programs, links.
#include "common.h"

#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sys/syscall.h>

#include <algorithm>
#include <vector>

static const char* const kCapabilities = "CAP_BPF and CAP_NET_ADMIN (before Linux 5.8 CAP_SYS_ADMIN)";

static int Bpf(bpf_cmd command, union bpf_attr& attr) {
  return static_cast<int>(syscall(SYS_bpf, command, &attr, sizeof attr));
}

static uint64_t Pointer(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

static void CopyObjectName(const std::string& name, char (&field)[BPF_OBJ_NAME_LEN]) {
  std::memset(field, 0, sizeof field);
  std::memcpy(field, name.data(), std::min(name.size(), sizeof field - 1));
}

static std::string MapHint(int error) {
  switch (error) {
    case EPERM:
      return CapabilityHint(error, kCapabilities) + "; before Linux 5.11 also a larger limit of locked memory (ulimit -l)";
    case EINVAL:
      return "the kernel does not know this type of map (an XSKMAP takes Linux 4.18 with CONFIG_XDP_SOCKETS)";
    case ENOSYS:
      return "the kernel has no bpf(): it takes CONFIG_BPF_SYSCALL";
    default:
      return "";
  }
}

// bpfMapCreate({ type, keySize, valueSize, maxEntries, flags, name }).
static Napi::Value MapCreate(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object options = ObjectArgument(info, 0, "options");
  std::string name = ToText(options.Get("name"), "name");
  union bpf_attr attr = {};
  attr.map_type = ToInteger(env, options.Get("type"), "type");
  attr.key_size = ToInteger(env, options.Get("keySize"), "keySize");
  attr.value_size = ToInteger(env, options.Get("valueSize"), "valueSize");
  attr.max_entries = ToInteger(env, options.Get("maxEntries"), "maxEntries");
  attr.map_flags = ToInteger(env, options.Get("flags"), "flags");
  CopyObjectName(name, attr.map_name);
  int fd = Bpf(BPF_MAP_CREATE, attr);
  if (fd < 0) {
    int error = errno;
    throw SystemError(env, error, "bpf BPF_MAP_CREATE", "making the BPF map " + name,
                      MapHint(error));
  }
  return Napi::Number::New(env, fd);
}

// The sizes of a map's keys and values, so that no call reads or writes beyond a buffer.
static bpf_map_info MapInfo(Napi::Env env, int fd) {
  bpf_map_info about = {};
  union bpf_attr attr = {};
  attr.info.bpf_fd = fd;
  attr.info.info_len = sizeof about;
  attr.info.info = Pointer(&about);
  if (Bpf(BPF_OBJ_GET_INFO_BY_FD, attr) < 0)
    throw SystemError(env, errno, "bpf BPF_OBJ_GET_INFO_BY_FD",
                      "asking about the BPF map " + std::to_string(fd));
  return about;
}

static void CheckSize(Napi::Env env, const char* what, size_t given, size_t size) {
  if (given != size)
    throw Napi::RangeError::New(env, std::string(what) + ": has " + std::to_string(given) +
                                         " bytes, the map's have " + std::to_string(size));
}

// bpfMapUpdate(fd, key, value, flags).
static void MapUpdate(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int fd = IntegerArgument(info, 0, "fd");
  auto key = SpanArgument<uint8_t>(info, 1, "key");
  auto value = SpanArgument<uint8_t>(info, 2, "value");
  bpf_map_info about = MapInfo(env, fd);
  CheckSize(env, "key", key.length, about.key_size);
  CheckSize(env, "value", value.length, about.value_size);
  union bpf_attr attr = {};
  attr.map_fd = fd;
  attr.key = Pointer(key.data);
  attr.value = Pointer(value.data);
  attr.flags = IntegerArgument(info, 3, "flags");
  if (Bpf(BPF_MAP_UPDATE_ELEM, attr) < 0) {
    int error = errno;
    throw SystemError(env, error, "bpf BPF_MAP_UPDATE_ELEM",
                      std::string("writing to the BPF map ") + about.name,
                      error == E2BIG ? "it is full" : "");
  }
}

// bpfMapDelete(fd, key): false when there is no such key.
static Napi::Value MapDelete(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int fd = IntegerArgument(info, 0, "fd");
  auto key = SpanArgument<uint8_t>(info, 1, "key");
  bpf_map_info about = MapInfo(env, fd);
  CheckSize(env, "key", key.length, about.key_size);
  union bpf_attr attr = {};
  attr.map_fd = fd;
  attr.key = Pointer(key.data);
  if (Bpf(BPF_MAP_DELETE_ELEM, attr) == 0) return Napi::Boolean::New(env, true);
  if (errno == ENOENT) return Napi::Boolean::New(env, false);
  throw SystemError(env, errno, "bpf BPF_MAP_DELETE_ELEM",
                    std::string("deleting from the BPF map ") + about.name);
}

// bpfMapLookup(fd, key): undefined when there is no such key.
static Napi::Value MapLookup(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int fd = IntegerArgument(info, 0, "fd");
  auto key = SpanArgument<uint8_t>(info, 1, "key");
  bpf_map_info about = MapInfo(env, fd);
  CheckSize(env, "key", key.length, about.key_size);
  auto value = Napi::Uint8Array::New(env, about.value_size);
  union bpf_attr attr = {};
  attr.map_fd = fd;
  attr.key = Pointer(key.data);
  attr.value = Pointer(value.Data());
  if (Bpf(BPF_MAP_LOOKUP_ELEM, attr) == 0) return value;
  if (errno == ENOENT) return env.Undefined();
  throw SystemError(env, errno, "bpf BPF_MAP_LOOKUP_ELEM",
                    std::string("reading the BPF map ") + about.name);
}

// bpfProgramLoad({ type, expectedAttachType, instructions, license, name }). The program is loaded without
// a log first, since a log that does not fit is an error of its own; a refusal is asked for again with one.
static Napi::Value ProgramLoad(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object options = ObjectArgument(info, 0, "options");
  std::string name = ToText(options.Get("name"), "name");
  std::string license = ToText(options.Get("license"), "license");
  Napi::Value given = options.Get("instructions");
  if (!given.IsTypedArray() || given.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    throw Napi::TypeError::New(env, "instructions: must be of type Uint8Array");
  auto instructions = given.As<Napi::Uint8Array>();
  if (instructions.ByteLength() == 0 || instructions.ByteLength() % sizeof(bpf_insn) != 0)
    throw Napi::RangeError::New(env, "instructions: must be a multiple of 8 bytes");

  union bpf_attr attr = {};
  attr.prog_type = ToInteger(env, options.Get("type"), "type");
  attr.expected_attach_type = ToInteger(env, options.Get("expectedAttachType"), "expectedAttachType");
  attr.insns = Pointer(instructions.Data());
  attr.insn_cnt = instructions.ByteLength() / sizeof(bpf_insn);
  attr.license = Pointer(license.c_str());
  CopyObjectName(name, attr.prog_name);
  // A signal interrupts the verifier, which says EAGAIN and nothing else.
  constexpr int kMostAttempts = 100;
  int fd = -1, error = EAGAIN;
  for (int attempt = 0; fd < 0 && error == EAGAIN && attempt < kMostAttempts; attempt++) {
    fd = Bpf(BPF_PROG_LOAD, attr);
    error = errno;
  }
  if (fd >= 0) return Napi::Number::New(env, fd);
  std::vector<char> log(1 << 20);
  attr.log_level = 1;
  attr.log_buf = Pointer(log.data());
  attr.log_size = static_cast<uint32_t>(log.size());
  fd = Bpf(BPF_PROG_LOAD, attr);
  if (fd >= 0) return Napi::Number::New(env, fd);
  // With a log the verifier refused, for which it also says EACCES; without one, permission is missing.
  std::string hint = log[0] != '\0' ? std::string("the verifier says:\n") + log.data()
                                    : CapabilityHint(error, kCapabilities);
  throw SystemError(env, error, "bpf BPF_PROG_LOAD", "loading the BPF program " + name, hint);
}

// bpfLinkCreateXdp(programFd, interfaceIndex, flags).
static Napi::Value LinkCreateXdp(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  union bpf_attr attr = {};
  attr.link_create.prog_fd = IntegerArgument(info, 0, "programFd");
  attr.link_create.target_ifindex = IntegerArgument(info, 1, "interfaceIndex");
  attr.link_create.attach_type = BPF_XDP;
  attr.link_create.flags = IntegerArgument(info, 2, "flags");
  int fd = Bpf(BPF_LINK_CREATE, attr);
  if (fd >= 0) return Napi::Number::New(env, fd);
  int error = errno;
  // The kernel answers EINVAL for an interface that is not there.
  char name[IF_NAMESIZE];
  if (error == EINVAL && !if_indextoname(attr.link_create.target_ifindex, name)) error = ENODEV;
  std::string hint = CapabilityHint(error, kCapabilities);
  switch (error) {
    case EBUSY:
    case EEXIST:
      hint = "another XDP program is attached there (ip link show tells which)";
      break;
    case EINVAL:
      hint = "the driver refuses XDP as the interface is set up, or the kernel cannot attach it by "
             "bpf_link, which takes Linux 5.9";
      break;
    case EOPNOTSUPP:
      hint = "the interface's driver has no XDP in this mode";
      break;
    case ERANGE:
      hint = "the MTU of the interface or its peer is too large for XDP";
      break;
    case ENODEV:
      hint = "this network namespace has no such interface";
      break;
  }
  throw SystemError(env, error, "bpf BPF_LINK_CREATE",
                    "attaching an XDP program to interface " +
                        std::to_string(attr.link_create.target_ifindex),
                    hint);
}

// bpfLinkUpdate(linkFd, programFd): the link's program from now on, without a gap.
static void LinkUpdate(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  union bpf_attr attr = {};
  attr.link_update.link_fd = IntegerArgument(info, 0, "linkFd");
  attr.link_update.new_prog_fd = IntegerArgument(info, 1, "programFd");
  if (Bpf(BPF_LINK_UPDATE, attr) < 0) {
    int error = errno;
    throw SystemError(env, error, "bpf BPF_LINK_UPDATE", "replacing an attached XDP program",
                      CapabilityHint(error, kCapabilities));
  }
}

// bpfProgramRun(programFd, packet): runs the program once on a copy of the packet.
static Napi::Value ProgramRun(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int fd = IntegerArgument(info, 0, "programFd");
  auto packet = SpanArgument<uint8_t>(info, 1, "packet");
  std::vector<uint8_t> out(packet.length + 256);
  union bpf_attr attr = {};
  attr.test.prog_fd = fd;
  attr.test.data_in = Pointer(packet.data);
  attr.test.data_size_in = packet.length;
  attr.test.data_out = Pointer(out.data());
  attr.test.data_size_out = out.size();
  attr.test.repeat = 1;
  if (Bpf(BPF_PROG_TEST_RUN, attr) < 0)
    throw SystemError(env, errno, "bpf BPF_PROG_TEST_RUN", "running a BPF program");
  auto result = Napi::Object::New(env);
  auto bytes = Napi::Uint8Array::New(env, attr.test.data_size_out);
  std::memcpy(bytes.Data(), out.data(), attr.test.data_size_out);
  result.Set("returnValue", Napi::Number::New(env, attr.test.retval));
  result.Set("packet", bytes);
  return result;
}

// bpfProgramRunLive(programFd, packet, repeat, batchSize): sends what the program redirects. Returns 0 or -errno.
static Napi::Value ProgramRunLive(const Napi::CallbackInfo& info) {
  int fd = IntegerArgument(info, 0, "programFd");
  auto packet = SpanArgument<uint8_t>(info, 1, "packet");
  union bpf_attr attr = {};
  attr.test.prog_fd = fd;
  attr.test.data_in = Pointer(packet.data);
  attr.test.data_size_in = packet.length;
  attr.test.repeat = IntegerArgument(info, 2, "repeat");
  attr.test.batch_size = IntegerArgument(info, 3, "batchSize");
  attr.test.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
  return Napi::Number::New(info.Env(), Bpf(BPF_PROG_TEST_RUN, attr) < 0 ? -errno : 0);
}

void InitBpf(Napi::Env env, Napi::Object exports) {
  exports.Set("bpfMapCreate", Napi::Function::New<MapCreate>(env, "bpfMapCreate"));
  exports.Set("bpfMapUpdate", Napi::Function::New<MapUpdate>(env, "bpfMapUpdate"));
  exports.Set("bpfMapDelete", Napi::Function::New<MapDelete>(env, "bpfMapDelete"));
  exports.Set("bpfMapLookup", Napi::Function::New<MapLookup>(env, "bpfMapLookup"));
  exports.Set("bpfProgramLoad", Napi::Function::New<ProgramLoad>(env, "bpfProgramLoad"));
  exports.Set("bpfLinkCreateXdp", Napi::Function::New<LinkCreateXdp>(env, "bpfLinkCreateXdp"));
  exports.Set("bpfLinkUpdate", Napi::Function::New<LinkUpdate>(env, "bpfLinkUpdate"));
  exports.Set("bpfProgramRun", Napi::Function::New<ProgramRun>(env, "bpfProgramRun"));
  exports.Set("bpfProgramRunLive", Napi::Function::New<ProgramRunLive>(env, "bpfProgramRunLive"));
}
