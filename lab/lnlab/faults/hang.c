/* A disk that hangs, for a process that is started with LD_PRELOAD: while the file LNLAB_HANG_FLAG
   exists and holds the beginning of a path, what writes or syncs a file of that name does not
   return. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int hangs(int fd) {
  const char *flag = getenv("LNLAB_HANG_FLAG");
  char prefix[PATH_MAX], link[64], path[PATH_MAX];
  int file = flag ? open(flag, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return 0;
  ssize_t size = read(file, prefix, sizeof prefix - 1);
  close(file);
  if (size <= 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path);
  return length >= size && memcmp(path, prefix, size) == 0;
}

static void wait_for_disk(int fd) {
  while (hangs(fd)) usleep(50000);
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

int fsync(int fd) {
  REAL(fsync);
  wait_for_disk(fd);
  return real(fd);
}
int fdatasync(int fd) {
  REAL(fdatasync);
  wait_for_disk(fd);
  return real(fd);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
  REAL(pwrite);
  wait_for_disk(fd);
  return real(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
  REAL(pwrite64);
  wait_for_disk(fd);
  return real(fd, data, size, at);
}
int ftruncate(int fd, off_t size) {
  REAL(ftruncate);
  wait_for_disk(fd);
  return real(fd, size);
}
