// The least that a userspace program can do with a TUN device: reads packets and writes them back as they are, for the
// kernel to route on. What uvs costs beyond this is what uvs does. It uses the device as uvs does: with offload, so
// that whole packets pass, in batches of 8, what is written received by NAPI, poll when idle.
//
//   forwarder DEVICE    says "ready" and runs until it is killed
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FRAME_SIZE = 128 << 10, BATCH = 8, HEADER_SIZE = 12, BACKLOG_SIZE = 16 << 20, HUGE_PAGE = 2 << 20 };

static void fail(const char *what) {
  fprintf(stderr, "forwarder: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int open_device(const char *name) {
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) fail("/dev/net/tun");
  struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | IFF_NAPI};
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  int header_size = HEADER_SIZE, backlog_size = BACKLOG_SIZE;
  if (ioctl(fd, TUNSETIFF, &request)) fail(name);
  if (ioctl(fd, TUNSETSNDBUF, &backlog_size)) fail("TUNSETSNDBUF");
  if (ioctl(fd, TUNSETVNETHDRSZ, &header_size)) fail("TUNSETVNETHDRSZ");
  if (ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO_ECN)) fail("TUNSETOFFLOAD");
  return fd;
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: forwarder DEVICE\n");
    return 2;
  }
  int fd = open_device(argv[1]);
  static ssize_t lengths[BATCH];
  uint8_t *frames = aligned_alloc(HUGE_PAGE, BATCH * FRAME_SIZE);
  if (frames == NULL) fail("memory for frames");
  madvise(frames, BATCH * FRAME_SIZE, MADV_HUGEPAGE);
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    int count = 0;
    for (; count < BATCH; count++) {
      lengths[count] = read(fd, frames + count * FRAME_SIZE, FRAME_SIZE);
      if (lengths[count] < 0) break;
    }
    // What the kernel refuses is lost.
    for (int i = 0; i < count; i++)
      if (write(fd, frames + i * FRAME_SIZE, (size_t)lengths[i]) < 0 && errno == EBADFD) fail(argv[1]);
    if (count > 0) continue;
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    poll(&polled, 1, 1000);
  }
}
