/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * measure COMMAND...: runs it with output thrown away and prints
 * "SECONDS PEAK-KIB USER+SYSTEM-SECONDS"; what the command said is shown, and its exit
 * status passed on, when it fails.
 *
 * Peak memory is the command's own (wait4): this program is small enough not to be the
 * larger of the two before exec.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double seconds(struct timeval tv)
{
	return (double)tv.tv_sec + (double)tv.tv_usec / 1e6;
}

static void run(char **argv, int log)
{
	int null = open("/dev/null", O_RDWR);

	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(log, 2) < 0)
		_exit(127);
	execvp(argv[0], argv);
	fprintf(stderr, "measure: %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

static void show(int log)
{
	char buf[4096];
	ssize_t n;

	lseek(log, 0, SEEK_SET);
	while ((n = read(log, buf, sizeof(buf))) > 0)
		fwrite(buf, 1, (size_t)n, stderr);
}

int main(int argc, char **argv)
{
	char name[] = "/tmp/measure.XXXXXX";
	int log = mkstemp(name), status;
	struct rusage ru;
	double start;
	pid_t pid;

	if (argc < 2 || log < 0) {
		fprintf(stderr, "usage: measure COMMAND...\n");
		return 2;
	}
	unlink(name);
	start = now();
	pid = fork();
	if (pid == 0)
		run(argv + 1, log);
	if (pid < 0 || wait4(pid, &status, 0, &ru) != pid) {
		perror("measure");
		return 2;
	}
	start = now() - start;
	if (status != 0) {
		show(log);
		return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}
	printf("%.4f %ld %.4f\n", start, ru.ru_maxrss, seconds(ru.ru_utime) + seconds(ru.ru_stime));
	return 0;
}
