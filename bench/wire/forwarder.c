// The least that a userspace program can do with AF_XDP: receives frames on one interface, swaps their Ethernet
// addresses, transmits them on another. What uvs costs beyond this is what uvs does. It uses the sockets as uvs
// does: copy mode, one UMEM for both, wake-ups on demand, the same rings and batches, poll when idle.
//
//   forwarder IN OUT [MICROSECONDS]    says "ready" and runs until it is killed
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// Older headers do not name it.
#ifndef XDP_MAX_TX_SKB_BUDGET
#define XDP_MAX_TX_SKB_BUDGET 9
#endif

enum { FRAME_SIZE = 2048, RING_SIZE = 2048, FRAMES = 4 * RING_SIZE + 1024, BATCH = 256 };

struct ring {
  uint32_t *producer, *consumer, *flags;
  void *descriptors;
  uint32_t mine;  // this side's index
};

struct port {
  int fd;
  struct ring rx, tx, fill, completion;
};

static uint8_t *umem;
static uint64_t free_frames[FRAMES];
static int free_count;

static void fail(const char *what) {
  fprintf(stderr, "forwarder: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int bpf(int command, union bpf_attr *attr) {
  return (int)syscall(SYS_bpf, command, attr, sizeof *attr);
}

static struct ring map_ring(int fd, const struct xdp_ring_offset *at, size_t entry, off_t page) {
  uint8_t *base = mmap(NULL, at->desc + RING_SIZE * entry, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_POPULATE, fd, page);
  if (base == MAP_FAILED) fail("mmap of a ring");
  return (struct ring){(uint32_t *)(base + at->producer), (uint32_t *)(base + at->consumer),
                       (uint32_t *)(base + at->flags), base + at->desc, 0};
}

static void open_port(struct port *port, const char *name, int share_with) {
  int fd = port->fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket AF_XDP");
  if (share_with < 0) {
    struct xdp_umem_reg umem_reg = {.addr = (uintptr_t)umem,
                                    .len = (uint64_t)FRAMES * FRAME_SIZE,
                                    .chunk_size = FRAME_SIZE};
    if (setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &umem_reg, sizeof umem_reg)) fail("XDP_UMEM_REG");
  }
  static const int rings[] = {XDP_RX_RING, XDP_TX_RING, XDP_UMEM_FILL_RING,
                              XDP_UMEM_COMPLETION_RING};
  for (int i = 0; i < 4; i++) {
    int size = RING_SIZE;
    if (setsockopt(fd, SOL_XDP, rings[i], &size, sizeof size)) fail("making a ring");
  }
  // As many frames as there may be leave in one call, from Linux 6.17 on.
  static const int budget = RING_SIZE;
  setsockopt(fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &budget, sizeof budget);
  struct xdp_mmap_offsets at;
  socklen_t length = sizeof at;
  if (getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &at, &length)) fail("XDP_MMAP_OFFSETS");
  port->rx = map_ring(fd, &at.rx, sizeof(struct xdp_desc), XDP_PGOFF_RX_RING);
  port->tx = map_ring(fd, &at.tx, sizeof(struct xdp_desc), XDP_PGOFF_TX_RING);
  port->fill = map_ring(fd, &at.fr, sizeof(uint64_t), (off_t)XDP_UMEM_PGOFF_FILL_RING);
  port->completion = map_ring(fd, &at.cr, sizeof(uint64_t), (off_t)XDP_UMEM_PGOFF_COMPLETION_RING);
  struct sockaddr_xdp address = {
      .sxdp_family = AF_XDP,
      .sxdp_ifindex = if_nametoindex(name),
      .sxdp_flags = share_with < 0 ? XDP_COPY | XDP_USE_NEED_WAKEUP : XDP_SHARED_UMEM,
      .sxdp_shared_umem_fd = share_with < 0 ? 0 : (uint32_t)share_with,
  };
  if (bind(fd, (struct sockaddr *)&address, sizeof address)) fail(name);
}

// Redirects all that an interface receives to the socket of its queue, for as long as the process lives.
static void steer(const char *name, int socket_fd) {
  union bpf_attr attr;
  memset(&attr, 0, sizeof attr);
  attr.map_type = BPF_MAP_TYPE_XSKMAP;
  attr.key_size = attr.value_size = 4;
  attr.max_entries = 1;
  int map = bpf(BPF_MAP_CREATE, &attr);
  if (map < 0) fail("BPF_MAP_CREATE");
  uint32_t key = 0, value = (uint32_t)socket_fd;
  memset(&attr, 0, sizeof attr);
  attr.map_fd = (uint32_t)map;
  attr.key = (uintptr_t)&key;
  attr.value = (uintptr_t)&value;
  if (bpf(BPF_MAP_UPDATE_ELEM, &attr)) fail("BPF_MAP_UPDATE_ELEM");

  struct bpf_insn program[] = {
      {.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 2, .src_reg = 1, .off = 16},  // rx_queue_index
      {.code = BPF_LD | BPF_IMM | BPF_DW, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = map},
      {0},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = XDP_PASS},
      {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map},
      {.code = BPF_JMP | BPF_EXIT},
  };
  memset(&attr, 0, sizeof attr);
  attr.prog_type = BPF_PROG_TYPE_XDP;
  attr.expected_attach_type = BPF_XDP;
  attr.insns = (uintptr_t)program;
  attr.insn_cnt = sizeof program / sizeof program[0];
  attr.license = (uintptr_t) "GPL";
  int loaded = bpf(BPF_PROG_LOAD, &attr);
  if (loaded < 0) fail("BPF_PROG_LOAD");
  memset(&attr, 0, sizeof attr);
  attr.link_create.prog_fd = (uint32_t)loaded;
  attr.link_create.target_ifindex = if_nametoindex(name);
  attr.link_create.attach_type = BPF_XDP;
  attr.link_create.flags = XDP_FLAGS_DRV_MODE;
  if (bpf(BPF_LINK_CREATE, &attr) < 0) fail("BPF_LINK_CREATE");
}

static void refill(struct port *port) {
  uint64_t *descriptors = port->fill.descriptors;
  uint32_t used = port->fill.mine - __atomic_load_n(port->fill.consumer, __ATOMIC_ACQUIRE);
  uint32_t before = port->fill.mine;
  for (; used < RING_SIZE && free_count > 0; used++)
    descriptors[port->fill.mine++ & (RING_SIZE - 1)] = free_frames[--free_count];
  if (port->fill.mine == before) return;
  __atomic_store_n(port->fill.producer, port->fill.mine, __ATOMIC_RELEASE);
  if (__atomic_load_n(port->fill.flags, __ATOMIC_ACQUIRE) & XDP_RING_NEED_WAKEUP)
    recvfrom(port->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
}

static void reclaim(struct port *port) {
  const uint64_t *descriptors = port->completion.descriptors;
  uint32_t end = __atomic_load_n(port->completion.producer, __ATOMIC_ACQUIRE);
  if (end == port->completion.mine) return;
  while (port->completion.mine != end)
    free_frames[free_count++] = descriptors[port->completion.mine++ & (RING_SIZE - 1)] &
                                ~(uint64_t)(FRAME_SIZE - 1);
  __atomic_store_n(port->completion.consumer, end, __ATOMIC_RELEASE);
}

// Before Linux 6.17 the kernel takes 32 frames a call.
static void kick(struct port *port) {
  uint32_t consumed = __atomic_load_n(port->tx.consumer, __ATOMIC_ACQUIRE);
  while (consumed != port->tx.mine) {
    if (!(__atomic_load_n(port->tx.flags, __ATOMIC_ACQUIRE) & XDP_RING_NEED_WAKEUP)) return;
    sendto(port->fd, NULL, 0, MSG_DONTWAIT, NULL, 0);
    uint32_t now = __atomic_load_n(port->tx.consumer, __ATOMIC_ACQUIRE);
    if (now == consumed) return;
    consumed = now;
  }
}

static void swap_addresses(uint8_t *frame) {
  uint8_t address[6];
  memcpy(address, frame, 6);
  memcpy(frame, frame + 6, 6);
  memcpy(frame + 6, address, 6);
}

static int forward(struct port *in, struct port *out) {
  const struct xdp_desc *received = in->rx.descriptors;
  struct xdp_desc *sent = out->tx.descriptors;
  uint32_t count = __atomic_load_n(in->rx.producer, __ATOMIC_ACQUIRE) - in->rx.mine;
  if (count > BATCH) count = BATCH;
  if (count == 0) return 0;
  uint32_t room = RING_SIZE - (out->tx.mine - out->completion.mine);
  for (uint32_t i = 0; i < count; i++) {
    struct xdp_desc frame = received[in->rx.mine++ & (RING_SIZE - 1)];
    if (room == 0) {
      free_frames[free_count++] = frame.addr & ~(uint64_t)(FRAME_SIZE - 1);
      continue;
    }
    room--;
    swap_addresses(umem + frame.addr);
    sent[out->tx.mine++ & (RING_SIZE - 1)] = (struct xdp_desc){frame.addr, frame.len, 0};
  }
  __atomic_store_n(in->rx.consumer, in->rx.mine, __ATOMIC_RELEASE);
  __atomic_store_n(out->tx.producer, out->tx.mine, __ATOMIC_RELEASE);
  kick(out);
  return (int)count;
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(int argc, char **argv) {
  if (argc != 3 && argc != 4) {
    fprintf(stderr, "usage: forwarder IN OUT [MICROSECONDS]\n");
    return 2;
  }
  // How long it looks for frames in vain before it sleeps.
  int64_t patience_ns = argc == 4 ? atoll(argv[3]) * 1000 : 0;
  umem = mmap(NULL, (size_t)FRAMES * FRAME_SIZE, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (umem == MAP_FAILED) fail("mmap of the UMEM");
  for (int i = 0; i < FRAMES; i++) free_frames[free_count++] = (uint64_t)i * FRAME_SIZE;
  struct port in, out;
  open_port(&in, argv[1], -1);
  open_port(&out, argv[2], in.fd);
  steer(argv[1], in.fd);
  refill(&in);
  printf("ready\n");
  fflush(stdout);
  int64_t idle_since = 0;
  for (;;) {
    int count = forward(&in, &out);
    if (out.tx.mine != out.completion.mine) {
      kick(&out);
      reclaim(&out);
    }
    refill(&in);
    if (count > 0) {
      idle_since = 0;
      continue;
    }
    if (patience_ns > 0) {
      int64_t now = now_ns();
      if (idle_since == 0) idle_since = now;
      if (now - idle_since < patience_ns) continue;
    }
    struct pollfd polled = {.fd = in.fd, .events = POLLIN};
    poll(&polled, 1, 1000);
    idle_since = 0;
  }
}
