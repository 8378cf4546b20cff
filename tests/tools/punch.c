/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * punch FILE NBYTES COUNT: what a hole costs where FILE is.  Writes the file, makes COUNT holes of NBYTES
 * with as much data between them, and prints microseconds a hole, or "-" where there are no holes.
 * The file, which must not exist, is removed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *name;

static void die(const char *what)
{
	fprintf(stderr, "punch: %s: %s: %s\n", name, what, strerror(errno));
	unlink(name);
	exit(1);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void fill(int fd, uint64_t nbytes)
{
	static char buf[65536];

	memset(buf, 0x5a, sizeof(buf));
	for (uint64_t at = 0; at < nbytes; at += sizeof(buf))
		if (pwrite(fd, buf, sizeof(buf), (off_t)at) != (ssize_t)sizeof(buf))
			die("write");
	if (fsync(fd) != 0)
		die("fsync");
}

int main(int argc, char **argv)
{
	uint64_t nbytes = argc == 4 ? strtoull(argv[2], NULL, 10) : 0, n = argc == 4 ? strtoull(argv[3], NULL, 10) : 0;
	double start;
	int fd;

	if (!nbytes || !n) {
		fprintf(stderr, "usage: punch FILE NBYTES COUNT\n");
		return 1;
	}
	name = argv[1];
	fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd < 0) {
		fprintf(stderr, "punch: %s: %s\n", name, strerror(errno));
		return 1;
	}
	fill(fd, 2 * n * nbytes);
	start = now();
	for (uint64_t i = 0; i < n; i++) {
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(2 * i * nbytes), (off_t)nbytes) == 0)
			continue;
		if (errno != EOPNOTSUPP)
			die("fallocate");
		n = 0;
	}
	if (n)
		printf("%.1f\n", (now() - start) * 1e6 / (double)n);
	else
		puts("-");
	close(fd);
	unlink(name);
	return 0;
}
